"""The learner's vocabulary: `import labs_lib as lab`.

Measuring                        Learning                            This machine and this learner
lab.compare  naive, optimised    lab.predict      before you run     lab.doctor   what it can do
lab.ledger   exact counts        lab.calibration  how well you guess lab.journal  what you have done
lab.show     a picture           lab.check, lab.hint, lab.solution

The tools of each subject are in its own package, such as `labs_lib.static_memory`.
"""

from labs_lib.compare import compare
from labs_lib.errors import LabError
from labs_lib.exercises import check, hint, solution
from labs_lib.figures import show
from labs_lib.journal import journal
from labs_lib.ledger import ledger
from labs_lib.machine import doctor
from labs_lib.predict import calibration, predict

__all__ = [
    "LabError",
    "calibration",
    "check",
    "compare",
    "doctor",
    "hint",
    "journal",
    "ledger",
    "predict",
    "show",
    "solution",
]

"""GPU memory diagnosis."""

from labs_lib.gpu_memory.devices import DEVICES, Device, find_device
from labs_lib.gpu_memory.fit import will_it_fit
from labs_lib.gpu_memory.plans import Plan
from labs_lib.gpu_memory.replays import Replay, replay
from labs_lib.gpu_memory.steps import Step
from labs_lib.gpu_memory.trace import KINDS, Block, Operator, Trace
from labs_lib.gpu_memory.tracker import track
from labs_lib.gpu_memory.verdicts import Verdict

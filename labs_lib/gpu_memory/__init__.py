"""GPU memory diagnosis."""

from labs_lib.gpu_memory.trace import KINDS, Block, Operator, Trace
from labs_lib.gpu_memory.tracker import track

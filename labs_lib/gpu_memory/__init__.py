"""GPU memory diagnosis."""

from labs_lib.gpu_memory.caching_allocator import CachingAllocator, OutOfMemory, Request, requests_of, serve
from labs_lib.gpu_memory.devices import DEVICES, Device, find_device
from labs_lib.gpu_memory.fit import will_it_fit
from labs_lib.gpu_memory.leak_cases import CASES, leak_case
from labs_lib.gpu_memory.leaks import CULPRITS, Leak, find_leak
from labs_lib.gpu_memory.panels import SCATTERED, allocator_panel, composition_panel
from labs_lib.gpu_memory.pictures import (
    composition_picture,
    growth_picture,
    owners_picture,
    recorded_picture,
    reserved_picture,
    segments_picture,
    timeline_picture,
)
from labs_lib.gpu_memory.plans import Plan
from labs_lib.gpu_memory.recordings import Recorded, recordings
from labs_lib.gpu_memory.replays import Replay, replay
from labs_lib.gpu_memory.steps import Step
from labs_lib.gpu_memory.trace import KINDS, Block, Operator, Trace
from labs_lib.gpu_memory.tracker import track
from labs_lib.gpu_memory.verdicts import Verdict

"""Compilation: what torch.compile makes of a model, what stands in its way, and when it pays.

`capture` counts (graphs, breaks, kernels, bytes) and needs no compiler; `report` also times, and names the
cause where compiling does not help.
"""

from labs_lib.compilation.capture import Capture, capture
from labs_lib.compilation.panels import payoff_panel
from labs_lib.compilation.payoff import Costs, block_stack, measure_costs, recorded_costs
from labs_lib.compilation.pictures import payoff_picture, ratios_picture, traffic_picture
from labs_lib.compilation.report import Report, report
from labs_lib.compilation.services import SERVICES
from labs_lib.compilation.traffic import Traffic, eager_traffic
from labs_lib.toolchain import cold_cache, prepare

"""Dataloader tuning."""

from labs_lib.data_loading.diagnose import BOTTLENECKS, Diagnosis, diagnose
from labs_lib.data_loading.events import Event
from labs_lib.data_loading.panels import model_panel
from labs_lib.data_loading.photos import Decoded, Photos, Rows, write_photos
from labs_lib.data_loading.pictures import timeline_picture, tuning_picture
from labs_lib.data_loading.planted import PLANTED
from labs_lib.data_loading.settings import Setting
from labs_lib.data_loading.simulate import Schedule, simulate
from labs_lib.data_loading.timeline import Timeline, timeline
from labs_lib.data_loading.tune import Tuning, tune

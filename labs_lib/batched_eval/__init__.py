"""Batched evaluation: why one by one is slow, rung by rung up to the limit, with every prediction the same."""

from labs_lib.batched_eval.agreement import Agreement, agreement
from labs_lib.batched_eval.best_batch import BestBatch, best_batch
from labs_lib.batched_eval.data import Digits, digits, large_images, pad, sentences
from labs_lib.batched_eval.ladder import Ladder, Rung, count, ladder
from labs_lib.batched_eval.models import digits_cnn, drawn, resnet18, text_encoder, train
from labs_lib.batched_eval.padding import Padding, batches_of, bucketed, count_padding, in_order, pad_batches
from labs_lib.batched_eval.panels import padding_panel
from labs_lib.batched_eval.pictures import batch_picture, ladder_picture
from labs_lib.batched_eval.precision import no_bfloat16
from labs_lib.batched_eval.roofline import Roofline, roofline
from labs_lib.roofline import Limits, limits

"""Batched evaluation: why one by one is slow, rung by rung up to the limit, with every prediction the same."""

from labs_lib.batched_eval.agreement import Agreement, agreement
from labs_lib.batched_eval.ladder import Ladder, Rung, count, ladder
from labs_lib.batched_eval.models import (
    digits,
    digits_cnn,
    drawn,
    pictures,
    resnet18,
    sentences,
    text_encoder,
    train,
)
from labs_lib.batched_eval.padding import Padding, bucketed, count_padding, in_order, pad
from labs_lib.batched_eval.pictures import ladder_picture

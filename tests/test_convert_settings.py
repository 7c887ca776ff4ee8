"""A source's settings are read against a closed list."""

import pytest

from flaxtl.convert.settings import READ, irrelevant, only, read_settings, where
from flaxtl.errors import CheckpointError

TABLE = {
    "depth": READ,
    "global_pool": only("avg", ""),
    "img_size": where(lambda v: v in (None, 224), "pictures of 224 pixels"),
    **irrelevant("of training", "drop_rate", "drop_path_rate"),
}


def read(found, ignore=()):
    return read_settings(found, TABLE, source="config.json, model_args", ignore=ignore)


def test_what_matters_and_is_honoured_is_returned_and_nothing_else():
    assert read({"depth": 3, "global_pool": "avg", "drop_rate": 0.5}) == {"depth": 3, "global_pool": "avg"}
    assert read({}) == {}


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"global_pool": "max"}, r"model_args says global_pool='max', where flaxtl computes 'avg', ''"),
        ({"img_size": 96}, r"img_size=96, where flaxtl computes pictures of 224 pixels"),
        ({"output_stride": 8}, r"output_stride=8, a setting that flaxtl does not know"),
        ({"global_pol": "avg"}, r"global_pol='avg', .* \(the nearest known one is 'global_pool'\)"),
        ({"aa": 1, "global_pool": "max"}, r"(?s)aa=1.*global_pool='max'.*ignore_settings=\('aa', 'global_pool'\)"),
        ({"blocks": "x" * 500}, r"blocks='x{60,80}…"),
    ],
)
def test_what_is_not_honoured_is_refused_by_name(found, said):
    with pytest.raises(CheckpointError, match=said):
        read(found)


def test_a_setting_that_is_not_set_changes_nothing():
    assert read({"rope_scaling": None, "global_pool": None}) == {"global_pool": None}


@pytest.mark.parametrize("name", ["output_stride", "model_args.output_stride"])
def test_a_refused_setting_is_left_out_when_asked(name):
    assert read({"output_stride": 8, "depth": 2}, (name,)) == {"depth": 2}
    with pytest.raises(CheckpointError, match="global_pool"):
        read({"output_stride": 8, "global_pool": "max"}, (name,))


def test_a_setting_that_is_ignored_is_not_read_even_if_it_is_known():
    assert read({"depth": 3}, ("depth",)) == {}


def test_lists_equal_tuples():
    assert only((7, 7)).accepts([7, 7])
    assert not only((7, 7)).accepts([7, 8])

"""A data set is found by any of its names, and never another in its place."""

import pytest

from cloob_jax.data import locations
from cloob_jax.errors import UserError


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("cifar10", "wds_vtab-cifar10"),
        ("vtab/cifar10", "cifar10"),
        ("flowers", "vtab/flowers"),
        ("flowers", "oxford_flowers102"),
        ("imagenet1k", "tfds/imagenet2012"),
        ("imagenetv2", "imagenet_v2"),
        ("imagenet_v2/matched-frequency", "imagenet_v2/matched-frequency"),
        ("coco", "wds_mscoco_captions"),
        ("mine", "mine"),
    ],
)
def test_found_under_any_name(tmp_path, name, folder):
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "cifar100").mkdir()
    assert locations.find("x", name, str(tmp_path)) == tmp_path / folder


def test_the_folder_itself_may_be_given(tmp_path):
    (tmp_path / "cifar10/test").mkdir(parents=True)
    found = locations.find("x", "cifar10", str(tmp_path / "cifar10"))
    assert found == tmp_path / "cifar10"


def test_another_set_with_the_same_classes_is_not_it(tmp_path):
    (tmp_path / "imagenetv2").mkdir()
    with pytest.raises(UserError, match=r"no data set imagenet1k in .*imagenet2012"):
        locations.find("x", "imagenet1k", str(tmp_path))


def test_two_of_one_name_are_refused(tmp_path):
    for folder in ("cifar10", "vtab/cifar10"):
        (tmp_path / folder).mkdir(parents=True)
    with pytest.raises(UserError, match="are both cifar10"):
        locations.find("x", "cifar10", str(tmp_path))

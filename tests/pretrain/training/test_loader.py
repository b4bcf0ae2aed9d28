"""The loader of steps."""

import pytest
from torch.utils.data import Dataset

from parsers.command import InputError
from pretrain.training.loader import StepLoader


class _Damaged(Dataset):
    """Steps of which the second cannot be read."""

    def __getitem__(self, step):
        if step == 1:
            raise InputError("part-00000.parquet: is damaged; write it again")
        return [step]


@pytest.mark.parametrize("workers", [0, 1])
def test_bad_data_is_an_error_of_one_line_wherever_it_is_read(workers):
    loader = StepLoader(_Damaged(), range(3), workers=workers)
    assert next(loader) == [0]
    with pytest.raises(InputError) as error:
        next(loader)
    assert str(error.value) == "part-00000.parquet: is damaged; write it again"
    loader.close()


class _Numbers(Dataset):
    def __getitem__(self, step):
        return [step, 10 * step]


@pytest.mark.parametrize("workers", [0, 1])
def test_any_step_can_be_the_first(workers):
    loader = StepLoader(_Numbers(), range(5, 8), workers=workers)
    assert list(loader) == [[5, 50], [6, 60], [7, 70]]
    assert loader.waited > 0
    loader.close()
    assert list(loader) == []

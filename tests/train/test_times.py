"""What networks cost, told beside the first of them."""

import pytest
import torch

from scripts.train.export import write_onnx
from scripts.train.network import Network
from scripts.train.times import main


def test_each_network_is_told_at_its_size(tmp_path, capsys):
    torch.manual_seed(0)
    file = tmp_path / "net.onnx"
    write_onnx(Network(2).eval(), file)
    main([f"{file}@32", f"{file}@256x192", "--rounds", "5"])
    first, second = (line.split() for line in capsys.readouterr().out.splitlines())
    assert (first[0], first[-1]) == (f"{file}@32", "1.000")
    assert second[0] == f"{file}@256x192"
    assert float(second[-1]) > 1


@pytest.mark.parametrize("size", ["wide", "1x2x3"])
def test_a_size_that_is_none_is_refused(size):
    with pytest.raises(ValueError, match="write NAME@320"):
        main([f"net.onnx@{size}"])

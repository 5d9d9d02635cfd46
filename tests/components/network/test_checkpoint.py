"""What a checkpoint keeps."""

import dataclasses
import json

import numpy as np

from bnpipe.components.network import checkpoint


def test_the_position_survives_its_file(tmp_path):
    position = checkpoint.Position(3, 5, 1.5, 7, [{"epoch": 1, "validation_loss": None}], 1, True)
    state = [np.arange(3, dtype=np.float32), np.array(5)]
    checkpoint.save(tmp_path, position, state, [])
    loaded, arrays, best = checkpoint.load(tmp_path)
    assert (loaded, best) == (position, [])
    assert [a.tolist() for a in arrays] == [[0, 1, 2], 5]
    assert json.dumps(dataclasses.asdict(loaded))
    assert [p.name for p in tmp_path.iterdir()] == [checkpoint.FILE_NAME]

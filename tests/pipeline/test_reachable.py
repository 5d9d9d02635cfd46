"""What `make run` asks first."""

import pytest

from bnpipe.pipeline.reachable import notice


@pytest.mark.parametrize("setting", [{"BNPIPE_HOME": "s3://bucket/a"}, {"BNPIPE_CONFIG": "none"}])
def test_what_is_wrong_with_the_settings_is_left_to_the_run(
    setting: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BNPIPE_ARCHIVES", raising=False)
    for name, value in setting.items():
        monkeypatch.setenv(name, value)
    assert notice([]) is None

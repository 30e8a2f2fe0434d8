import pytest
from fake_commands import FakeCommands


@pytest.fixture
def fakes(tmp_path):
    return FakeCommands(tmp_path)

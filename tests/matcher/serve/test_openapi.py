"""The API does what its OpenAPI document says, whatever it is asked."""

import shutil

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.matcher.serve.conftest import quick_training, server_process

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
PATHS = ("/match", "/match/batch", "/projects/{key}/match", "/projects/{key}/match/batch")


@pytest.fixture(scope="module")
def described(own, trained, tmp_path_factory):
    """The document of a server whose project has a trained version."""
    data = tmp_path_factory.mktemp("openapi") / "data"
    shutil.copytree(trained, data)
    with server_process(data, quick_training(own)) as (_, client):
        yield schemathesis.openapi.from_url(f"{client.base_url}/openapi.json")


def test_no_request_is_left_out(described):
    assert {found.ok().label for found in described.get_all_operations()} == {f"POST {path}" for path in PATHS}


@pytest.mark.parametrize("mode", schemathesis.GenerationMode)
@pytest.mark.parametrize("path", PATHS)
def test_every_answer_is_one_that_the_document_promises(described, path, mode):
    @settings(max_examples=20, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(described[path]["POST"].as_strategy(generation_mode=mode))
    def ask(case):
        # No document can say which bytes are a picture: well-formed requests without one are answered 400.
        case.call_and_validate(excluded_checks=[schemathesis.checks.positive_data_acceptance])

    ask()

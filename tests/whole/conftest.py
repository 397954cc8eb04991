"""What the fault suites share."""

import pandas as pd
import pytest
from fault_job import undisturbed_job


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """The job that faults are injected into, without any."""
    return undisturbed_job(tmp_path_factory.mktemp("undisturbed"))

import pytest
from llmsite.tests.test_fuzz import *
@pytest.mark.timeout(400)
def test_zz(fuzzed_site, tmp_path, staff):
    options = ["--phases", "examples,coverage,fuzzing", "--max-examples", "30", "--include-path-regex", "/api/(training/datasets|documents).*"]
    print(fuzz(fuzzed_site, tmp_path, bearer(staff)["Authorization"], *options))

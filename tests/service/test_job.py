from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import job as jobs
from service.job import Changed, Job, Refused, Serving, Settings

paths = st.none() | st.from_regex(r"[a-z /]{1,12}", fullmatch=True).map(Path)


@given(
    st.builds(
        Job,
        config=st.just(Path("config")),
        url=st.text(),
        bundle=paths,
        settings=st.builds(
            Settings,
            listen=st.text(),
            callers=paths,
            archive=paths,
            tls_certificate=paths,
            tls_key=paths,
            configuration=paths,
            deadline=st.floats(0, 100),
            grace=st.floats(0, 100),
            log_age=st.integers(0, 2**40),
            log_entries=st.integers(0, 2**40),
            number=st.integers(0, 255),
            connection_age=st.floats(0, 1e6),
            worker=st.text("0123456789abcdef", min_size=4, max_size=4),
        ),
    )
)
def test_a_job_arrives_as_it_was_sent(job: Job) -> None:
    line = jobs.written(job)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert jobs.job(line) == job


@pytest.mark.parametrize("report", [Serving(), Changed(), Refused('line 3: "x"\nis wrong')])
def test_a_report_arrives_as_it_was_sent(report: jobs.Report) -> None:
    line = jobs.written(report)
    assert line.count(b"\n") == 1
    assert jobs.report(line) == report


@pytest.mark.parametrize("line", [b"", b"\n", b"Hello!\n", b'{"type":"Other"}\n', b"[]\n"])
def test_anything_else_is_no_report(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        jobs.report(line)

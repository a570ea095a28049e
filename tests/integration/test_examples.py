from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from tests.integration.serving import Client

EXAMPLES = Path(__file__).parents[2] / "docs/examples"

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def _run(name: str, client: Client) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(EXAMPLES / f"{name}.py"),
        client.target,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, failed = await process.communicate()
    assert process.returncode == 0, failed.decode()
    return said.decode()


async def test_what_the_ivr_example_records_is_what_the_agent_example_shows(
    client: Client,
) -> None:
    ivr = await _run("ivr_flow", client)
    assert "IVR says:" in ivr
    assert "STATUS_STORED" in ivr
    agent = await _run("agent_tool", client)
    assert "self-service on ivr failed" in agent
    assert "why not gold_credit_card: NO_CONSENT" in agent


async def test_the_chat_example_says_a_reply_and_reports_both_outcomes(client: Client) -> None:
    said = await _run("chat_bot", client)
    assert "bot says:" in said
    assert "OUTCOME_PRESENTED STATUS_STORED" in said
    assert "OUTCOME_REJECTED STATUS_STORED" in said

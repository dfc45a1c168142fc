"""An agent of the Claude Agent SDK without the tools of a programmer: ``CLEO_AGENT=agent:answer``."""

import os
import tempfile

from claude_agent_sdk import ClaudeAgentOptions, ResultMessage, query

TASK = "You answer the mail of a shop's customers, briefly and in the language of the mail."


async def answer(request):
    """Ask once. Each call is a process of its own: keep EMAIL_CONCURRENCY small."""
    told = [f"{turn['role']}: {turn['content']}" for turn in request["history"]]
    prompt = "\n\n".join([*told, f"user: {request['message']['text']}"])
    result = None
    # The program tells the model about the folder that it runs in, and keeps what was said in its own.
    with tempfile.TemporaryDirectory() as folder:
        async for message in query(prompt=prompt, options=options(folder)):
            if isinstance(message, ResultMessage):
                result = message  # the loop goes on to its end, or the program is left behind
    if result is None or result.is_error or not result.result:
        raise RuntimeError(result.subtype if result else "no result")  # it is asked again later
    return result.result


def options(folder):
    return ClaudeAgentOptions(
        system_prompt=TASK,
        model=os.environ.get("MODEL"),
        tools=[],  # a stranger writes to it: no shell, no files
        setting_sources=[],  # nor what else is set up for this user
        max_turns=3,
        cwd=folder,
        env={"CLAUDE_CONFIG_DIR": folder, "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"},
    )

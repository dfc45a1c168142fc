"""An agent that repeats the text of the mail: for the demo and for tests."""

from __future__ import annotations

import json

from cleo_email.agents.base import AgentRequest, final_answer
from cleo_email.mail.model import Answer


class EchoAgent:
    """Answers with the new text of the mail; to the start of a workflow, with the workflow."""

    def __repr__(self) -> str:
        return "echo"

    def answer(self, request: AgentRequest, *, deadline: float) -> Answer:
        """Return the text that came in; ``deadline`` plays no part, nothing is waited for. Never raises."""
        text = request.message.text
        if not text.strip() and request.workflow is not None:
            shown = json.dumps(request.workflow, indent=2, ensure_ascii=False)
            text = "\n".join(f"    {line}" for line in shown.split("\n"))  # a code block in Markdown
        return final_answer({"reply": text})

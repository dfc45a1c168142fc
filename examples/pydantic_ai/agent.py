"""A pydantic-ai agent with a typed answer: ``CLEO_AGENT=agent:answer``."""

import os
from functools import cache

from pydantic import BaseModel, Field
from pydantic_ai import Agent
from pydantic_ai.messages import ModelRequest, ModelResponse, TextPart, UserPromptPart
from pydantic_ai.models.openai import OpenAIChatModel


class Reply(BaseModel):
    """The answer to the customer."""

    reply: str = Field(description="the text of the mail, in Markdown")


class HandOver(BaseModel):
    """A person has to answer: for complaints, contracts and whatever you are not sure about."""

    handoff: str = Field(description="why, for the colleague")


@cache
def agent():
    model = OpenAIChatModel(os.environ.get("MODEL", "gpt-5"))
    task = "Answer the customer's mail briefly, in its language."
    return Agent(model, instructions=task, output_type=[Reply, HandOver])


async def answer(request):
    """Return the run: its output has ``reply`` or ``handoff``, as an answer to Cleo has."""
    history = [
        ModelRequest([UserPromptPart(turn["content"])])
        if turn["role"] == "user"
        else ModelResponse([TextPart(turn["content"])])
        for turn in request["history"]
    ]
    return await agent().run(request["message"]["text"], message_history=history)

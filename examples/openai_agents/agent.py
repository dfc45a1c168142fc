"""An agent of the OpenAI Agents SDK that looks an order up: ``CLEO_AGENT=agent:answer``."""

import os
from functools import cache

from agents import Agent, OpenAIChatCompletionsModel, Runner, function_tool, set_tracing_disabled
from openai import AsyncOpenAI

ORDERS = {"4711": "sent on Monday, arrives on Thursday"}


@function_tool
def order_status(number: str) -> str:
    """Tell where an order is."""
    return ORDERS.get(number, "no such order")


@cache
def agent():
    # The client belongs to the event loop in which all calls run, so it is made at the first one.
    model = OpenAIChatCompletionsModel(os.environ.get("MODEL", "gpt-5"), openai_client=AsyncOpenAI())
    set_tracing_disabled(True)  # else what customers write goes to a second place
    task = "Answer the customer's mail briefly, in its language. Look orders up; promise nothing."
    return Agent("support", instructions=task, model=model, tools=[order_status])


async def answer(request):
    turns = [
        {"role": "user" if turn["role"] == "user" else "assistant", "content": turn["content"]}
        for turn in request["history"]
    ]
    turns.append({"role": "user", "content": request["message"]["text"]})
    return await Runner.run(agent(), turns)

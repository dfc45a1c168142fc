"""A LangGraph agent whose interrupt is a question by mail: ``CLEO_AGENT=agent:answer``."""

import os
import sqlite3
from functools import cache
from textwrap import indent
from typing import TypedDict

from langchain_openai import ChatOpenAI
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt


class State(TypedDict, total=False):
    mail: str
    decision: str
    reply: str


def decide(state):
    """Wait for a person. LangGraph keeps the state until the graph is resumed, here or in another process."""
    mail = indent(state["mail"], "> ", lambda line: True)
    question = f"May this customer have the money back? Answer with a sentence.\n\n{mail}"
    return {"decision": interrupt(question)}


def write(state):
    model = ChatOpenAI(model=os.environ.get("MODEL", "gpt-5"))
    task = f"Answer the customer's mail politely and briefly. The decision is: {state['decision']}"
    return {"reply": model.invoke([("system", task), ("user", state["mail"])]).text}


@cache
def graph():
    built = StateGraph(State).add_node(decide).add_node(write)
    built.add_edge(START, "decide").add_edge("decide", "write").add_edge("write", END)
    # All worker processes must share it: one file on one machine, or a saver for PostgreSQL.
    states = sqlite3.connect(os.environ.get("STATES", "states.sqlite"), check_same_thread=False)
    return built.compile(checkpointer=SqliteSaver(states))


def answer(request):
    """Begin, or go on where the graph stopped. The id of the question names its state.

    After a crash the same request may come again: what was reached is in the state, and is not done twice.
    """
    config = {"configurable": {"thread_id": request["id"]}}
    state, resumed = graph().get_state(config), request.get("resumed")
    if not state.values:
        graph().invoke({"mail": request["message"]["text"]}, config)
    elif resumed and state.interrupts:
        graph().invoke(Command(resume=resumed["answer"]), config)
    elif not state.interrupts and state.next:
        graph().invoke(None, config)
    state = graph().get_state(config)
    if state.interrupts:
        ask = {"question": state.interrupts[0].value}
        return {"ask": {**ask, "to": os.environ["BOSS"]} if "BOSS" in os.environ else ask}
    return state.values["reply"]

"""An HTTP agent in Flask: ``/answer`` answers at once, ``/slow`` says 202 and answers by callback.

Start it with ``flask --app app run --port 5000``, and name it: ``CLEO_AGENT=http://127.0.0.1:5000/answer``.
"""

import hmac
import json
import logging
import os
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

from flask import Flask, request

app = Flask(__name__)
work = ThreadPoolExecutor(4)
begun = set()  # ids: after a crash of the worker the same question may come again
TRIES = 8


@app.before_request
def only_cleo():
    """Refuse everybody who does not show CLEO_AGENT_TOKEN, if one is set."""
    token = os.environ.get("CLEO_AGENT_TOKEN", "")
    if token and not hmac.compare_digest(request.headers.get("Authorization", ""), f"Bearer {token}"):
        return {"error": "wrong token"}, 401
    return None


@app.post("/answer")
def answer():
    return {"reply": think(request.json)}


@app.post("/slow")
def slow():
    """Promise an answer. It is lost with this process: a real agent keeps its promises in a queue."""
    question = request.json
    if not question["callback"].get("url", "").startswith(("https://", "http://")):
        return {"error": "there is no URL to call back: CLEO_PUBLIC_URL is not set"}, 400
    if question["id"] not in begun:
        begun.add(question["id"])
        work.submit(answer_later, question)
    return {}, 202


def answer_later(question):
    seconds = float(os.environ.get("SECONDS", "60"))
    try:
        call_back(question["callback"], {"reply": think(question, seconds)})
    except Exception:  # nobody reads the future: the log has to tell
        logging.exception("question %s was not answered", question["id"])
    finally:
        begun.discard(question["id"])  # it comes again where a person tries it again


def think(question, seconds=0.0):
    """Put your agent here. The text of a mail is untrusted input."""
    time.sleep(seconds)
    mail = question["message"]
    return (
        f"Hello {mail['from_name'] or 'there'},\n\nyou wrote **{mail['subject']}**. I have thought about it."
    )


def call_back(callback, body):
    """Give the answer. The same one again is taken as a duplicate, so it may be tried until it is through."""
    call = urllib.request.Request(
        callback["url"],
        json.dumps(body).encode(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {callback['token']}"},
    )
    for attempt in range(TRIES):
        try:
            with urllib.request.urlopen(call, timeout=30):
                return
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code != 429:  # 409: no longer waiting; 422: read what is wrong
                raise RuntimeError(f"{error.code} {error.read().decode()}") from None
        except OSError:
            pass  # the web process is away for a moment
        time.sleep(2**attempt)
    raise RuntimeError("no callback got through")

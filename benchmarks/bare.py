"""The least that takes a webhook durably: Flask and one RPUSH. ``gunicorn benchmarks.bare:app``."""

from __future__ import annotations

import os

from flask import Flask, request
from redis import Redis

app = Flask(__name__)
redis = Redis.from_url(os.environ["REDIS_URL"])


@app.post("/incoming")
def incoming() -> tuple[dict[str, str], int]:
    redis.rpush("bare", request.get_data())
    return {"status": "accepted"}, 202


@app.get("/healthz")
def healthz() -> str:
    return "ok"

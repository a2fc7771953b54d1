"""A small Flask application: a page from a template, and JSON."""

from __future__ import annotations

from flask import Flask, jsonify, render_template_string

app = Flask(__name__)

PAGE = """<!doctype html><title>{{ title }}</title><ul>
{% for row in rows %}<li class="{{ loop.cycle('odd', 'even') }}">{{ row.name }}: {{ row.value }}</li>
{% endfor %}</ul>
"""
ROWS = [{"name": f"row {i}", "value": i * i} for i in range(40)]


@app.get("/")
def page() -> str:
    return render_template_string(PAGE, title="Forty rows", rows=ROWS)


@app.get("/json")
def data() -> object:
    return jsonify(rows=ROWS[:10])

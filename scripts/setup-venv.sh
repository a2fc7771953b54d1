#!/bin/sh
# Make .venv with this checkout and its pinned Python packages (those of pyproject.toml); does nothing if it is current.
set -eu
cd "$(dirname "$0")/.."

stamp=.venv/.ditto-setup
if [ -x .venv/bin/ditto ] && [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(sha256sum <pyproject.toml)" ]; then
	exit 0
fi

python=
for candidate in python3.11 python3.12 python3.13 python3; do
	if command -v "$candidate" >/dev/null 2>&1 &&
		"$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
		python=$candidate
		break
	fi
done
if [ -z "$python" ]; then
	echo "no Python of version 3.11 or later that can make a virtual environment; run this, then make again:" >&2
	echo "    sudo apt-get install python3-venv" >&2
	exit 3
fi

echo "Installing from PyPI into .venv: ditto-clone's dependencies and its development tools (pyproject.toml)"
[ -x .venv/bin/python ] || "$python" -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
sha256sum <pyproject.toml >"$stamp"

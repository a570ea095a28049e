#!/bin/sh
# Check a configuration folder and write it as one file, conditions compiled. The compiler of rules
# (the `rules` extra) stays outside of what serves: it is put into a folder that goes away.
set -eu
into=$1 config=$2 output=$3
rules=$(mktemp -d)
trap 'rm -rf "$rules"' EXIT
"$into/bin/python" -m pip install --quiet --disable-pip-version-check \
  --constraint requirements.lock --no-deps --target "$rules" cel-expr-python
PYTHONPATH="$rules" "$into/bin/rapport" config publish "$config" --output "$output"

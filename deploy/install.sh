#!/bin/sh
# Install what serves into a folder of its own, with the exact versions of the lock, and compile the
# kernels there. The image is built with this, and CI rehearses it where no engine builds images.
set -eu
into=$1
python3 -m venv "$into"
"$into/bin/python" -m pip install --quiet --disable-pip-version-check \
  --constraint requirements.lock .
# From there: in a checkout Python would take the modules of the checkout, and compile for these.
cd "$into"
NUMBA_CACHE_DIR="$PWD/kernels" bin/python -m service.warm

"""The project's settings with a data folder of the tests' own; nothing else differs.

Messages for workers go to that folder's broker, which nobody reads: tests that need a worker start
the real processes with folders of their own.
"""

import atexit
import os
import shutil
import tempfile

_data_dir = tempfile.mkdtemp(prefix="p2pweb-tests-")
atexit.register(shutil.rmtree, _data_dir, ignore_errors=True)
os.environ["P2PWEB_DATA_DIR"] = _data_dir
for _name in ("DATABASE_URL", "REDIS_URL", "P2PWEB_MODELS_DIR"):
    os.environ.pop(_name, None)

from p2pweb.settings import *  # noqa: E402, F403

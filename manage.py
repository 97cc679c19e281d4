#!/usr/bin/env python
"""Django's command line for this project."""

import os
import sys
from pathlib import Path

if __name__ == "__main__":
    # The second source root; an installed checkout (`pip install -e .`) has it on the path already.
    sys.path.insert(1, str(Path(__file__).resolve().parent / "queue"))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "p2pweb.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)

"""Django's command line for this project."""

import os
import sys
from pathlib import Path

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # where the package django_project lies
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "django_project.settings")
    execute_from_command_line(sys.argv)

"""Run the `yolo-lite` command as `python -m yolo_lite`."""

import sys

from yolo_lite.commands import main

sys.exit(main())

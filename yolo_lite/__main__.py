"""`python -m yolo_lite` is the command `yolo-lite`."""

import sys

from yolo_lite.commands import main

sys.exit(main())

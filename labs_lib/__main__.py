import sys

from labs_lib.cli import main

sys.exit(main())

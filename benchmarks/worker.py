"""One measurement in this process: `python -m benchmarks.worker PART '{"argument": ...}'` prints it as JSON."""

import importlib
import json
import sys

if __name__ == "__main__":
    measured = importlib.import_module(f"benchmarks.{sys.argv[1]}").measure(**json.loads(sys.argv[2]))
    print("\n" + json.dumps(measured))

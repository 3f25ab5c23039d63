"""Files of JSON as earlier versions wrote them."""

import json
from pathlib import Path
from typing import Any


def forget(path: Path, name: str) -> dict[str, Any]:
    """Takes an entry out of an object in a file, and returns what is left."""
    content = json.loads(path.read_text())
    del content[name]
    path.write_text(json.dumps(content))
    return content

"""The example at the top of the README prints what the README says."""

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"


def test_example_prints_what_it_says(tmp_path: Path) -> None:
    shown = re.search(
        r"<!-- example: begin -->\n```python\n(.*?)```\n\n```text\n(.*?)```", README.read_text(), re.DOTALL
    )
    assert shown
    program = tmp_path / "example.py"
    program.write_text(shown[1])
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.stdout == shown[2], done.stderr
    assert not done.stderr

"""Drives a Jupyter kernel: each line of its input is an order in JSON, each line of its output what came of it.

Orders: ["run", code], ["interrupt", code, text] (once it has printed `text`), ["restart"] (["restart", "now"]: by a
kill) and ["stop"].
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

WAIT_S = 30


def run(client: BlockingKernelClient, manager: KernelManager, code: str, until: str = "") -> dict[str, Any]:
    """Run a cell; return what it printed and what it raised."""
    request = client.execute(code)
    said: dict[str, Any] = {"out": "", "err": "", "error": None, "value": None}
    interrupted = 0.0
    while True:
        message = client.get_iopub_msg(timeout=WAIT_S)
        if message["parent_header"].get("msg_id") != request:
            continue
        kind, content = message["msg_type"], message["content"]
        if kind == "stream":
            said["out" if content["name"] == "stdout" else "err"] += content["text"]
        elif kind == "execute_result":
            said["value"] = content["data"]["text/plain"]
        elif kind == "error":
            said["error"] = f"{content['ename']}: {content['evalue']}"
        elif kind == "status" and content["execution_state"] == "idle":
            said["seconds"] = time.monotonic() - interrupted
            return said
        if until and not interrupted and until in said["out"]:
            interrupted = time.monotonic()
            manager.interrupt_kernel()


def main() -> None:
    manager = KernelManager(kernel_name="python3")
    assert manager.kernel_spec is not None
    manager.kernel_spec.argv[0] = sys.executable  # whatever is registered under this name elsewhere
    manager.start_kernel()
    client = manager.blocking_client()
    client.start_channels()
    client.wait_for_ready(timeout=WAIT_S)
    for line in sys.stdin:
        order, *arguments = json.loads(line)
        said: object = None
        if order == "restart":
            manager.restart_kernel(now=bool(arguments))
            client.wait_for_ready(timeout=WAIT_S)
        elif order == "stop":
            break
        else:
            said = run(client, manager, *arguments)
        print(json.dumps(said), flush=True)
    client.stop_channels()
    manager.shutdown_kernel()
    print(json.dumps("stopped"), flush=True)


if __name__ == "__main__":
    main()

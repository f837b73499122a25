"""Debian's Chromium, without a window, spoken to through the pipe of its DevTools protocol."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-pipe"),
)
PATIENCE = 60.0  # seconds

# What a page may not cause.
TROUBLE = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
# Each text's contrast with what is painted behind it, by WCAG 2.2's definition.
CONTRASTS = """
(() => {
  const parse = (color) => color.match(/[\\d.]+/g).map(Number);
  const luminance = (color) => {
    const [r, g, b] = color.slice(0, 3).map((one) => {
      const part = one / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const color = parse(getComputedStyle(one).backgroundColor);
      if (color.length < 4 || color[3] === 1) return color;
    }
    throw new Error("nothing is painted behind");
  };
  const found = {};
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((one) => one.nodeType === 3 && one.data.trim());
    if (!own || element.matches("title, desc")) continue;
    const style = getComputedStyle(element);
    const color = parse(element instanceof SVGElement ? style.fill : style.color);
    if (color.length === 4 && color[3] !== 1) throw new Error("a color that lets through");
    const [dark, light] = [luminance(color), luminance(behind(element))].sort((a, b) => a - b);
    const name = `${element.tagName}.${element.getAttribute("class") || ""}`;
    found[name] = Math.min(found[name] ?? 99, (light + 0.05) / (dark + 0.05));
  }
  return found;
})()
"""


class Browser:
    """One Chromium with one tab; ``events`` are those of the page that was opened last."""

    def __init__(self, reading: int, writing: int) -> None:
        self._reading, self._writing = reading, writing
        self._received = b""
        self._number = 0
        self._session: dict[str, str] = {}
        self.events: list[dict[str, Any]] = []
        (target, *_) = [
            target
            for target in self("Target.getTargets")["targetInfos"]
            if target["type"] == "page"
        ]
        attached = self("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = {"sessionId": attached["sessionId"]}
        for domain in ("Page", "Runtime", "Log", "Network", "Accessibility", "DOM"):
            self(f"{domain}.enable")

    def __call__(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol; a refusal is an error of the test."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters, **self._session}
        os.write(self._writing, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return dict(answer["result"])
            self.events.append(answer)

    def _receive(self) -> dict[str, Any]:
        until = time.monotonic() + PATIENCE
        while b"\0" not in self._received:
            ready = select.select([self._reading], [], [], max(0.0, until - time.monotonic()))[0]
            piece = os.read(self._reading, 1 << 20) if ready else b""
            assert piece, "Chromium said nothing more"
            self._received += piece
        message, _, self._received = self._received.partition(b"\0")
        return dict(json.loads(message))

    def open(
        self, page: Path | str, width: int = 1280, scheme: str = "light", media: str = ""
    ) -> None:
        """Show a file or an address in a window of that width, as who prefers ``scheme`` sees it."""
        self("Page.navigate", url="about:blank")
        self.resize(width)
        self.prefer(scheme, media)
        self.events.clear()
        self("Page.navigate", url=page if isinstance(page, str) else page.as_uri())
        while not self.told("Page.loadEventFired"):
            self.events.append(self._receive())

    def resize(self, width: int) -> None:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self("Emulation.setDeviceMetricsOverride", **size)

    def prefer(self, scheme: str, media: str = "") -> None:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self("Emulation.setEmulatedMedia", features=features, media=media)

    def told(self, *methods: str) -> list[dict[str, Any]]:
        """Return what these events said since the page was opened."""
        self("Runtime.evaluate", expression="0")  # whatever was told before has arrived then
        return [event["params"] for event in self.events if event.get("method") in methods]

    def value(self, expression: str) -> Any:
        """Return what a JavaScript expression gives."""
        given = self("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in given, given
        return given["result"].get("value")

    def tree(self) -> list[dict[str, Any]]:
        """Return the accessibility tree's nodes that are not ignored: role, name, properties."""
        nodes = self("Accessibility.getFullAXTree")["nodes"]
        return [
            {
                "role": node["role"]["value"],
                "name": node.get("name", {}).get("value", ""),
                **{more["name"]: more["value"].get("value") for more in node["properties"]},
                "description": node.get("description", {}).get("value", ""),
            }
            for node in nodes
            if not node["ignored"]
        ]

    def printed(self) -> bytes:
        """Return the page as a PDF on A4."""
        paper = {"paperWidth": 8.27, "paperHeight": 11.69, "preferCSSPageSize": True}
        return base64.b64decode(self("Page.printToPDF", printBackground=False, **paper)["data"])


@contextlib.contextmanager
def chromium(*prefix: str) -> Iterator[Browser]:
    """Start Chromium with a temporary profile; both end with the block. ``prefix`` runs it elsewhere."""
    there, writing = os.pipe()
    reading, back = os.pipe()
    # The protocol's descriptors are 3 and 4: ours must not be in the way of that.
    inner = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (there, back)]
    os.close(there)
    os.close(back)

    def give() -> None:
        os.dup2(inner[0], 3)
        os.dup2(inner[1], 4)

    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
        open(Path(profile) / "log", "wb") as log,
    ):
        arguments = [
            *prefix,
            "/usr/bin/chromium",
            *FLAGS,
            f"--user-data-dir={profile}",
            "about:blank",
        ]
        home = {
            "HOME": profile,
            "TMPDIR": profile,
            "PATH": "/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "TZ": "UTC",
        }
        with subprocess.Popen(
            arguments,
            preexec_fn=give,
            pass_fds=(3, 4),
            env=home,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        ) as process:
            for end in inner:
                os.close(end)
            try:
                browser = Browser(reading, writing)
                yield browser
                browser._session = {}
                browser("Browser.close")
                process.wait(PATIENCE)
            finally:
                process.kill()
                os.close(reading)
                os.close(writing)

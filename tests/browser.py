"""Open a report in headless Chromium and probe it."""

import json
import re
import shutil
import subprocess

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PROBE = """
<script>
addEventListener("error", event => document.body.dataset.error = event.message);
addEventListener("load", () => {
  const first = () => document.querySelector("#table tbody td").textContent.trim();
  const order = [];
  const head = [...document.querySelectorAll("#table th button")].find(each => each.textContent === "mAP50-95");
  for (let i = 0; i < 2; i++) { head.click(); order.push(first()); }
  document.querySelectorAll(".chip")[1].click();
  const faded = [...document.querySelectorAll("figure .m")].map(each => each.style.opacity === "0.08");
  const empty = [...document.querySelectorAll("figure > svg")].filter(svg => svg.getBBox().width < 100).length;
  const plots = [...document.querySelectorAll(".plots")];
  const right = each => each.getBoundingClientRect().right;
  const ends = each => right(each) - right(each.lastElementChild) <= 1;
  const holes = plots.filter(each => each.childElementCount > 1 && !ends(each)).map(each => each.innerText);
  const table = document.querySelector("#table .scroll"), corner = table.querySelector("td");
  const hint = table.previousElementSibling, scrolls = !hint.hidden && table.classList.contains("more");
  const before = corner.getBoundingClientRect().left;
  table.scrollLeft = 1e6;
  const stays = corner.getBoundingClientRect().left === before;
  const columns = [...document.querySelectorAll("#table th")].map(each => each.innerText.replace(/\\n/g, ", "));
  const found = {
    holes, scrolls, stays, columns, scrolled: table.scrollLeft,
    ready: document.documentElement.dataset.ready, order, empty,
    plots: document.querySelectorAll("figure > svg").length,
    faded: faded.includes(true) && faded.includes(false),
    sections: [...document.querySelectorAll("section")].map(each => each.id),
    tooWide: document.documentElement.scrollWidth - innerWidth, width: innerWidth,
    ink: getComputedStyle(document.body).color,
  };
  const out = document.createElement("pre");
  out.id = "found"; out.textContent = JSON.stringify(found); document.body.append(out);
});
</script>
"""


def in_chromium(page, tmp_path, width, dark=False):
    """Open a page; return the results of the probe and the browser's messages."""
    (tmp_path / "page.html").write_text(page.replace("</head>", PROBE + "</head>"), "utf-8")
    frame = f'<iframe id="frame" src="page.html" style="width:{width}px;height:900px;border:0"></iframe>'
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
        "--allow-file-access-from-files", f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1600,1000",
        f"--blink-settings=preferredColorScheme={0 if dark else 1}", "--enable-logging=stderr",
        "--virtual-time-budget=5000", "--dump-dom",
    ]  # fmt: skip
    copy = "frame.onload = () => document.body.append(frame.contentDocument.querySelector('#found').cloneNode(true))"
    (tmp_path / "frame.html").write_text(f"<body>{frame}<script>{copy}</script></body>", "utf-8")
    process = subprocess.run(
        [*command, (tmp_path / "frame.html").as_uri()], capture_output=True, text=True, timeout=120
    )
    found = re.search(r'<pre id="found">(.*?)</pre>', process.stdout, re.S)
    said = [line for line in process.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(found[1]) if found else None, said

"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") === "descending";
    heads.forEach(each => each.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const value = row => row.cells[column].dataset.v;
    const rows = [...body.rows].sort((a, b) => {
      const x = value(a), y = value(b), numeric = !isNaN(x) && !isNaN(y) && x !== "" && y !== "";
      return (numeric ? x - y : x.localeCompare(y, "en", {numeric: true})) * (up ? 1 : -1);
    });
    body.append(...rows);
  }));
}
for (const box of document.querySelectorAll(".scroll")) {
  const hint = box.previousElementSibling;
  const look = () => {
    box.classList.toggle("more", box.scrollLeft + box.clientWidth < box.scrollWidth - 1);
    if (hint?.matches(".hint")) hint.hidden = box.scrollWidth <= box.clientWidth + 1;
  };
  look();
  box.addEventListener("scroll", look, {passive: true});
  new ResizeObserver(look).observe(box);
}
const picked = new Set();
for (const chip of document.querySelectorAll(".chip")) {
  chip.addEventListener("click", () => {
    const on = !picked.has(chip.dataset.m);
    on ? picked.add(chip.dataset.m) : picked.delete(chip.dataset.m);
    chip.setAttribute("aria-pressed", on);
    for (const part of document.querySelectorAll("figure .m")) {
      const here = [...picked].some(number => part.classList.contains("m" + number));
      part.style.opacity = picked.size && !here ? 0.08 : "";
    }
  });
}
document.documentElement.dataset.ready = "true";

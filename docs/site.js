/* Boxes that scroll sideways are reached by keyboard, and a copy button alone is no landmark. */
const content = document.querySelector(".md-content");
const boxes = ".md-typeset__scrollwrap, .output, pre > code";

function mend() {
  for (const box of content.querySelectorAll(boxes)) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
  for (const nav of content.querySelectorAll(".md-code__nav")) nav.setAttribute("role", "none");
}

new ResizeObserver(mend).observe(content);
new MutationObserver(mend).observe(content, { childList: true, subtree: true }); // the theme adds them as it goes

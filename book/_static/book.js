// A page opened from a folder may not fetch others, so the search can name the pages found, but not quote them.
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;

// Equations stand in the page as LaTeX, \(...\) in a line and \[...\] on their own, after their number if they have one.
document.addEventListener("DOMContentLoaded", () => {
  for (const { lastChild: text } of document.querySelectorAll(".math.notranslate")) {
    const [latex, drawn] = [text.data.trim(), document.createElement("span")];
    const displayMode = !latex.startsWith("\\(");
    katex.render(latex.replace(/^\\[([]|\\[)\]]$/g, ""), drawn, { displayMode, throwOnError: false });
    text.replaceWith(drawn);
  }
  // Names that the theme gives in place of what is written there.
  for (const named of document.querySelectorAll("summary, .search-button-field")) named.removeAttribute("aria-label");
});

// On a phone wide figures scroll (book.css). What scrolls within itself can be scrolled by keys too, once it is reached by Tab.
window.addEventListener("load", () => {
  for (const image of document.querySelectorAll(".cell_output img"))
    if ((Number(image.getAttribute("width")) || image.naturalWidth) > 560) image.classList.add("wide");
  for (const box of document.querySelectorAll(".cell_output, div.math, .pst-scrollable-table-container"))
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
});

// What a reader with a keyboard, a screen reader or weak eyes would stumble over. Returns a line for each.
() => {
  const found = [];
  const say = (what, one) => found.push(`${what}: ${one.outerHTML.slice(0, 120)}`);
  const shown = one => one.offsetParent !== null && getComputedStyle(one).visibility === "visible";
  const named = one => (one.getAttribute("aria-label") || one.textContent || one.title || "").trim();

  if (!document.documentElement.lang) found.push("no language");
  if (document.querySelectorAll("h1").length !== 1) found.push("not exactly one h1");
  if (!document.querySelector("main")) found.push("no main");
  const ids = [...document.querySelectorAll("[id]")].map(one => one.id);
  for (const id of new Set(ids)) if (ids.filter(other => other === id).length > 1) found.push(`twice the id ${id}`);
  let level = 0;
  for (const one of document.querySelectorAll("h1, h2, h3, h4")) {
    if (Number(one.tagName[1]) > level + 1) say("a level of headings is left out", one);
    level = Number(one.tagName[1]);
  }
  for (const one of document.querySelectorAll("input:not([type=hidden]), textarea, select"))
    if (!one.labels.length && !one.getAttribute("aria-label")) say("no label", one);
  for (const one of document.querySelectorAll("button, a[href], summary")) if (!named(one)) say("no name", one);
  for (const one of document.querySelectorAll("iframe")) if (!one.title) say("no title", one);
  for (const one of document.querySelectorAll("[role=img]")) if (!one.getAttribute("aria-label")) say("no words", one);
  for (const name of ["aria-labelledby", "aria-describedby"])
    for (const one of document.querySelectorAll(`[${name}]`))
      for (const id of one.getAttribute(name).split(" ")) if (!document.getElementById(id)) say(`${name} of nothing`, one);
  for (const one of document.querySelectorAll("button, .st, nav a")) {
    const box = one.getBoundingClientRect();
    if (shown(one) && Math.min(box.width, box.height) < 24) say("smaller than 24 px", one);
  }

  const parse = text => {
    const numbers = (text.match(/[\d.]+/g) || [0, 0, 0, 0]).map(Number);
    return {rgb: numbers.slice(0, 3), alpha: numbers.length > 3 ? numbers[3] : 1};
  };
  const light = rgb => {
    const [r, g, b] = rgb.map(v => v / 255).map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const ground = one => {
    for (let at = one; at; at = at.parentElement) {
      const color = parse(getComputedStyle(at).backgroundColor);
      if (color.alpha === 1) return color.rgb;
    }
    return parse(getComputedStyle(document.documentElement).getPropertyValue("background-color")).rgb;
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const one = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !shown(one) || one.closest(".unseen, .skip, button[disabled]")) continue;
    const both = [light(parse(getComputedStyle(one).color).rgb), light(ground(one))].sort((a, b) => b - a);
    const ratio = (both[0] + .05) / (both[1] + .05);
    if (ratio < 4.5) say(`contrast ${ratio.toFixed(2)}`, one);
  }
  return found;
}

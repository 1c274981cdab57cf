// What a page of ours owes to everybody, as a list of what it lacks. Runs inside the page.
({ own, minimum }) => {
  const found = [];
  const say = (what, node) => found.push(`${what}: ${node.outerHTML.slice(0, 120)}`);
  const all = (selector) => [...document.querySelectorAll(selector)];
  const seen = (node) => node.checkVisibility({ visibilityProperty: true, opacityProperty: true }) && node.getClientRects().length > 0;
  const named = (id) => document.getElementById(id)?.textContent.trim();
  const name = (node) => node.getAttribute("aria-label")?.trim()
    || (node.getAttribute("aria-labelledby") ?? "").split(/\s+/).map(named).join(" ").trim()
    || [...(node.labels ?? [])].map((label) => label.textContent.trim()).join(" ") || "";

  // Names.
  for (const node of all("input:not([type=hidden]), select, textarea")) if (!name(node)) say("a control without a label", node);
  for (const node of all("button, a[href], summary")) if (!name(node) && !node.textContent.trim()) say("without a name", node);
  for (const node of all("img")) if (!node.hasAttribute("alt")) say("a picture without words", node);
  for (const node of all("svg")) if (!node.closest("[role=img][aria-label]:not([aria-label=''])") && !node.closest("[aria-hidden=true]")) say("a drawing without a name", node);
  for (const node of all("[role=region], [role=group], nav, form, progress, section")) if (!name(node) && !node.closest("[role=img]")) say("an area without a name", node);
  for (const node of all("[aria-labelledby], [aria-describedby], [aria-controls], [aria-activedescendant]")) {
    for (const attribute of ["aria-labelledby", "aria-describedby", "aria-controls", "aria-activedescendant"]) {
      for (const id of (node.getAttribute(attribute) ?? "").split(/\s+/).filter(Boolean)) {
        if (!document.getElementById(id)) say(`${attribute} points nowhere`, node);
      }
    }
  }
  for (const node of all("label[for]")) if (!document.getElementById(node.htmlFor)) say("a label of nothing", node);
  const ids = all("[id]").filter((node) => !node.closest("svg")).map((node) => node.id);
  for (const id of new Set(ids.filter((each, k) => ids.indexOf(each) !== k))) found.push(`id ${id} stands twice`);

  // Structure.
  if (!document.documentElement.lang) found.push("the page says no language");
  if (!document.title.trim()) found.push("the page has no title");
  if (all("h1").length !== 1) found.push(`${all("h1").length} h1`);
  let level = 0;
  for (const node of all("h1, h2, h3, h4, h5, h6").filter(seen)) {
    const next = Number(node.tagName[1]);
    if (next > level + 1) say(`h${level} is followed by h${next}`, node);
    level = next;
  }
  for (const tag of ["header", "main", "footer"]) if (all(tag).length !== 1) found.push(`${all(tag).length} ${tag}`);
  if (!all("nav").length) found.push("no nav");
  if (own && all("nav [aria-current=page]").length !== 1) found.push("not one current page in the menu");
  for (const node of all("th")) if (!node.scope) say("a head without scope", node);
  for (const node of all("table")) {
    if (!node.caption && !name(node) && !node.closest("[aria-label], form") && !node.closest("#vg-tooltip-element")) say("a table without a caption", node);
    if (!node.querySelector("th") && !node.closest("#vg-tooltip-element")) say("a table without heads", node);
  }

  // Contrast (WCAG 2.2, 1.4.3 and 1.4.11), against what lies behind.
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const parsed = new Map();
  const rgba = (text) => {
    if (!parsed.has(text)) {
      canvas.clearRect(0, 0, 1, 1);
      canvas.fillStyle = text;
      canvas.fillRect(0, 0, 1, 1);
      const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
      parsed.set(text, [r, g, b, a / 255]);
    }
    return parsed.get(text);
  };
  const over = (front, back) => [0, 1, 2].map((k) => front[k] * front[3] + back[k] * (1 - front[3])).concat(1);
  const behind = (node) => {
    const layers = [];
    for (let at = node; at; at = at.parentElement) {
      layers.push(rgba(getComputedStyle(at).backgroundColor));
      if (layers.at(-1)[3] === 1) break;
    }
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    return layers.reduceRight((back, front) => over(front, back), dark ? [0, 0, 0, 1] : [255, 255, 255, 1]);
  };
  const faded = (node) => {
    let share = 1;
    for (let at = node; at; at = at.parentElement) share *= Number(getComputedStyle(at).opacity);
    return share;
  };
  const bright = (colour) => [0.2126, 0.7152, 0.0722].reduce((sum, weight, k) => {
    const value = colour[k] / 255;
    return sum + weight * (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  }, 0);
  const contrast = (one, two) => {
    const [high, low] = [bright(one), bright(two)].sort((a, b) => b - a);
    return (high + 0.05) / (low + 0.05);
  };
  const check = (text, node, back, least, what) => {
    const colour = rgba(text);
    const shown = over([...colour.slice(0, 3), colour[3] * faded(node)], back);
    const ratio = contrast(shown, back);
    if (ratio < least) say(`${what} ${ratio.toFixed(2)} < ${least}`, node);
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let checked = 0;
  while (texts.nextNode()) {
    const node = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || ["SCRIPT", "STYLE", "NOSCRIPT", "OPTION", "TITLE"].includes(node.tagName) || !seen(node)) continue;
    if (node.closest(".spoken, [aria-hidden=true]") && !node.closest("svg")) continue;
    const style = getComputedStyle(node);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    check(node.closest("svg") ? style.fill : style.color, node, behind(node), large ? 3 : 4.5, "contrast of text");
    checked += 1;
  }
  if (checked < minimum) found.push(`only ${checked} texts were checked`);
  for (const node of all("input:not([type=range]):not([type=checkbox]):not([type=radio]):not([type=hidden]), select, textarea, button").filter(seen)) {
    const style = getComputedStyle(node);
    const outside = behind(node.parentElement);
    const edge = over(rgba(style.borderTopColor), outside);
    const best = Math.max(parseFloat(style.borderTopWidth) > 0 ? contrast(edge, outside) : 1, contrast(behind(node), outside));
    if (best < 3) say(`contrast of an edge ${best.toFixed(2)} < 3`, node);
    if (node.placeholder) check(getComputedStyle(node, "::placeholder").color, node, behind(node), 4.5, "contrast of a placeholder");
  }
  return found;
}

  const map = document.getElementById("map"), about = document.getElementById("about");
  const data = (id) => JSON.parse(document.getElementById(id)?.textContent ?? "[]");
  const rows = data("sample"), colourings = data("colourings");
  let here = null;
  const show = (circle) => {
    if (here) here.classList.remove("here");
    here = circle;
    here.classList.add("here");
    const [, labels, text] = rows[circle.dataset.row];
    const chosen = colourings[document.getElementById("by").value];
    const number = chosen.numbers ? ` (${chosen.name} ${chosen.numbers[circle.dataset.row]})` : "";
    about.textContent = `${labels.join(", ")}${number}: ${text}`;
  };
  const place = (circle) => [circle.cx.baseVal.value, circle.cy.baseVal.value];
  const seen = () => [...map.querySelectorAll("g:not([hidden]) circle:not([hidden])")];
  // The nearest point that lies more in the direction of the key than aside of it.
  const next = ([dx, dy]) => {
    const [x, y] = here ? place(here) : [map.viewBox.baseVal.width / 2, map.viewBox.baseVal.height / 2];
    let best = null, least = Infinity;
    for (const circle of seen()) {
      const [cx, cy] = place(circle);
      const ahead = (cx - x) * dx + (cy - y) * dy, aside = Math.abs((cx - x) * dy) + Math.abs((cy - y) * dx);
      const far = ahead + 2 * aside;
      if (circle !== here && ahead > 0 && aside <= ahead && far < least) [best, least] = [circle, far];
    }
    return best;
  };
  const made = (name, properties = {}) => Object.assign(document.createElement(name), properties);
  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  if (map) {
    const legend = document.getElementById("legend"), by = document.getElementById("by");
    const circles = [...map.querySelectorAll("circle")];
    const mixed = (scale, share) => {
      const at = share * (scale.length - 1), low = Math.min(Math.floor(at), scale.length - 2);
      return `color-mix(in srgb, ${scale[low]}, ${scale[low + 1]} ${(at - low) * 100}%)`;
    };
    const hiding = (button, group) => button.addEventListener("click", () => {
      const hide = button.getAttribute("aria-pressed") === "true";
      button.setAttribute("aria-pressed", String(!hide));
      group.toggleAttribute("hidden", hide);
    });
    const group = () => map.appendChild(document.createElementNS("http://www.w3.org/2000/svg", "g"));
    const byLabel = ({ task, colours }) => {
      for (const circle of circles) circle.style.fill = "";
      for (const [label, colour] of Object.entries(colours)) {
        const points = group(), button = made("button", { type: "button" }), key = made("span", { className: "key" });
        points.setAttribute("fill", colour);
        points.append(...circles.filter((circle) => rows[circle.dataset.row][1][task] === label));
        key.style.background = colour;
        button.setAttribute("aria-pressed", "true");
        button.append(key, label);
        hiding(button, points);
        legend.append(button);
      }
    };
    const byNumber = ({ numbers, low, high, scale }) => {
      for (const circle of circles) circle.style.fill = mixed(scale, (numbers[circle.dataset.row] - low) / (high - low || 1));
      group().append(...circles);
      const key = made("span", { className: "scale" }), bar = made("span");
      bar.style.background = `linear-gradient(to right, ${scale.join(", ")})`;
      key.append(low.toFixed(3), bar, high.toFixed(3));
      legend.append(key);
    };
    const colour = () => {
      const chosen = colourings[by.value];
      legend.replaceChildren();
      map.replaceChildren();
      (chosen.numbers ? byNumber : byLabel)(chosen);
    };
    colour();
    by.addEventListener("change", colour);
    map.addEventListener("pointerover", (event) => event.target.tagName === "circle" && show(event.target));
    map.addEventListener("keydown", (event) => {
      if (!(event.key in arrows)) return;
      event.preventDefault();
      const found = next(arrows[event.key]);
      if (found) show(found);
    });
  }
  const search = document.getElementById("search"), matches = document.getElementById("matches");
  const MOST = 20;
  const find = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const hits = rows.map(([, , text]) => words.every((word) => text.toLowerCase().includes(word)));
    for (const circle of map?.querySelectorAll("circle") ?? []) circle.toggleAttribute("hidden", !hits[circle.dataset.row]);
    const found = words.length ? rows.filter((_, at) => hits[at]) : [];
    matches.hidden = !found.length;
    matches.querySelector("tbody").replaceChildren(...found.slice(0, MOST).map(([id, labels, text]) => {
      const line = made("tr");
      line.append(made("td", { className: "n", textContent: id }), ...labels.map((label) => made("td", { textContent: label })), made("td", { className: "wide", textContent: text }));
      return line;
    }));
    document.getElementById("found").textContent = words.length
      ? `${found.length.toLocaleString("en")} of ${rows.length.toLocaleString("en")} rows found${found.length > MOST ? `; the first ${MOST} are shown` : ""}`
      : "";
  };
  search?.addEventListener("input", find);

// The viewer of a case: NiiVue on the data of the page. Nothing is unpacked before a case is asked for.
(() => {
  "use strict";

  const text = (id) => document.getElementById(id).textContent;
  const settings = JSON.parse(text("case-settings"));
  // Of Okabe and Ito's colours, as in the charts, those that are seen on grey tissue.
  const DIFFERENCE = {
    1: [[86, 180, 233], `labelled by ${settings.names.variant} alone`],
    2: [[230, 159, 0], `labelled by ${settings.names.baseline} alone`],
    3: [[204, 121, 167], "another label"],
  };
  const PALETTE = [[86, 180, 233], [230, 159, 0], [0, 178, 130], [240, 228, 66], [204, 121, 167], [213, 94, 0]];
  const MOST_IN_KEY = 12;
  const CROSS_PIXELS = 1.5; // of its lines: thinner ones are drawn in part, or not at all
  const STEPS = {
    ArrowLeft: [1, 0, 0], ArrowRight: [-1, 0, 0], ArrowUp: [0, 1, 0], ArrowDown: [0, -1, 0],
    PageUp: [0, 0, 1], PageDown: [0, 0, -1],
  };

  let open = null; // the case that is shown: one at a time, as browsers bound the number of WebGL contexts

  function element(tag, properties = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (name in made) made[name] = value;
      else made.setAttribute(name, value);
    }
    made.append(...children);
    return made;
  }

  /** NiiVue, run from the page's own text when it is first needed. */
  function program() {
    if (!window.niivue) {
      document.head.append(element("script", { textContent: text("viewer-program") }));
    }
    return window.niivue;
  }

  function colourOf(label, place) {
    if (place < PALETTE.length) return PALETTE[place];
    const hue = (place * 137.508) % 360; // the golden angle: neighbours in the list are far apart
    return [0, 8, 4].map((n) => {
      const k = (n + hue / 30) % 12;
      return Math.round(255 * (0.6 - 0.36 * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
    });
  }

  /** Value to colour and name: of all labels of the task, or of the differences. */
  function coloursOf(kind, held) {
    if (kind === "difference") return DIFFERENCE;
    const known = Object.keys(settings.labels).map(Number);
    const values = [...new Set([...known, ...held])].filter((value) => value > 0).sort((a, b) => a - b);
    return Object.fromEntries(
      values.map((value, place) => [value, [colourOf(value, place), settings.labels[value] ?? `label ${value}`]]),
    );
  }

  function table(colours) {
    const entries = [[0, [[0, 0, 0], ""]], ...Object.entries(colours)].map(([value, rest]) => [Number(value), ...rest]);
    const column = (i) => entries.map(([, colour]) => colour[i]);
    return {
      R: column(0), G: column(1), B: column(2), A: entries.map(([value]) => (value ? 255 : 0)),
      I: entries.map(([value]) => value), labels: entries.map(([, , name]) => name),
    };
  }

  class Viewer {
    constructor(button) {
      this.button = button;
      this.data = JSON.parse(text(`case-${button.dataset.case}`));
      this.kind = "difference";
      this.volumes = {};
      this.colours = {};
      const row = button.closest("tr");
      this.canvas = element("canvas", { tabIndex: 0 });
      this.canvas.setAttribute("role", "application"); // so that screen readers let the arrows through
      this.key = element("ul", { className: "key" });
      this.where = element("p", { "aria-live": "polite" });
      const panel = element(
        "div", { id: `viewer-${button.dataset.case}` },
        this.#choices(), element("div", { className: "screen" }, this.canvas), this.key, this.where,
        element("p", { className: "fine" },
          "Axial, coronal and sagittal, the patient's right on the left. Click or drag to move the cross; with the " +
          "keyboard arrows, Page Up and Page Down. ", `${this.data.note}.`),
      );
      panel.setAttribute("role", "group");
      panel.setAttribute("aria-label", `Images of ${this.data.case}`);
      this.row = element("tr", { className: "viewer-row" }, element("td", { className: "viewer", colSpan: row.cells.length }, panel));
      row.after(this.row);
      button.setAttribute("aria-expanded", "true");
      button.setAttribute("aria-controls", panel.id);
      button.textContent = "Hide";
      button.setAttribute("aria-label", `Hide the images of ${this.data.case}`);
    }

    async start() {
      const { Niivue, SHOW_RENDER } = program();
      this.viewer = new Niivue({
        logLevel: "error", isRadiologicalConvention: true, multiplanarShowRender: SHOW_RENDER.NEVER, backColor: [0, 0, 0, 1],
        crosshairColor: [1, 1, 1, 0.8], crosshairWidthUnit: "mm", crosshairGap: 12, fontColor: [1, 1, 1, 1], scrollRequiresFocus: true,
        dragAndDropEnabled: false, viewModeHotKey: "", clipPlaneHotKey: "", cycleClipPlaneHotKey: "",
        multiplanarPadPixels: 6, loadingText: "",
      });
      await this.viewer.attachToCanvas(this.canvas);
      this.viewer.onLocationChange = () => this.#describe();
      for (const kind of Object.keys(this.data.masks)) await this.#loadMask(kind);
      await this.#showChannel(0);
      this.goToFocus();
      this.canvas.addEventListener("keydown", (event) => this.#step(event));
    }

    close() {
      this.viewer?.gl?.getExtension("WEBGL_lose_context")?.loseContext();
      this.row.remove();
      this.button.setAttribute("aria-expanded", "false");
      this.button.removeAttribute("aria-controls");
      this.button.textContent = "Show";
      this.button.setAttribute("aria-label", `Show the images of ${this.data.case}`);
    }

    goToFocus() {
      // By the whole affine (true): NiiVue would else take a volume that lies askew for an upright one.
      this.viewer.scene.crosshairPos = this.viewer.mm2frac(this.data.focus_mm, 0, true);
      this.#zoomTo(Number(this.zoom.value));
      this.viewer.createOnLocationChange();
      this.viewer.drawScene();
    }

    #choices() {
      const names = { difference: "difference", truth: "truth", baseline: "baseline", variant: "variant", none: "image alone" };
      const kinds = Object.keys(names).filter((kind) => kind === "none" || kind in this.data.masks);
      const radios = kinds.map((kind) => {
        const name = settings.names[kind] && kind !== "truth" ? `${names[kind]} (${settings.names[kind]})` : names[kind];
        const radio = element("input", { type: "radio", name: `show-${this.button.dataset.case}`, value: kind, checked: kind === this.kind });
        radio.addEventListener("change", () => this.#show(kind));
        return element("label", {}, radio, name);
      });
      this.opacity = element("input", { type: "range", min: "0", max: "1", step: "0.05", value: "0.8" });
      this.opacity.addEventListener("input", () => this.#show(this.kind));
      this.zoom = element("input", { type: "range", min: "1", max: "8", step: "0.25", value: "1" });
      this.zoom.addEventListener("input", () => this.#zoomTo(Number(this.zoom.value)));
      const focus = element("button", { type: "button", textContent: "Go to the largest difference" });
      focus.addEventListener("click", () => this.goToFocus());
      const channels = element("select", {}, ...this.data.channels.map(({ name }, i) => element("option", { value: i, textContent: name })));
      channels.addEventListener("change", () => this.#showChannel(Number(channels.value)));
      return element(
        "div", { className: "choices" },
        element("fieldset", {}, element("legend", { textContent: "Show" }), ...radios),
        element("label", {}, "Opacity", this.opacity),
        element("label", {}, "Zoom", this.zoom),
        ...(this.data.channels.length > 1 ? [element("label", {}, "Channel", channels)] : []),
        focus,
      );
    }

    async #loadMask(kind) {
      const volume = await program().NVImage.loadFromBase64({ base64: this.data.masks[kind], name: `${kind}.nii.gz` });
      const held = [...new Set(volume.img)].filter((value) => value > 0);
      this.colours[kind] = { all: coloursOf(kind, held), held };
      volume.setColormapLabel(table(this.colours[kind].all));
      this.volumes[kind] = volume;
    }

    async #showChannel(number) {
      const { name, nifti } = this.data.channels[number];
      this.image = await program().NVImage.loadFromBase64({ base64: nifti, name: `image.nii.gz`, colormap: "gray" });
      this.channel = name;
      this.#show(this.kind);
    }

    #show(kind) {
      this.kind = kind;
      const mask = this.volumes[kind];
      if (mask) mask.opacity = Number(this.opacity.value);
      this.viewer.volumes = [];
      for (const volume of mask ? [this.image, mask] : [this.image]) this.viewer.addVolume(volume);
      if (mask) this.#sharpen();
      const { all, held } = this.colours[kind] ?? { all: {}, held: [] };
      const shown = Object.keys(all).map(Number).filter((value) => kind === "difference" || held.includes(value));
      const items = shown.slice(0, MOST_IN_KEY).map((value) => {
        const swatch = element("span", { "aria-hidden": "true" });
        swatch.style.backgroundColor = `rgb(${all[value][0].join()})`;
        return element("li", {}, swatch, all[value][1], held.includes(value) ? "" : " (nowhere)");
      });
      if (shown.length > MOST_IN_KEY) items.push(element("li", {}, `and ${shown.length - MOST_IN_KEY} more`));
      if (!shown.length && mask) items.push(element("li", {}, "no voxel is labelled"));
      this.key.replaceChildren(...items);
      this.canvas.setAttribute("aria-label", `Three slices of ${this.data.case}: image with ${kind === "none" ? "nothing" : kind} over it`);
      this.#describe();
    }

    /** The image is interpolated, and a mask is not: a voxel of it is there or is not. */
    #sharpen() {
      this.viewer.opts.isNearestInterpolation = true;
      this.viewer.updateInterpolation(1);
      this.viewer.opts.isNearestInterpolation = false;
      this.viewer.drawScene();
    }

    /** Around the cross. */
    #zoomTo(zoom) {
      const [x, y, z] = this.viewer.frac2mm(this.viewer.scene.crosshairPos);
      this.viewer.setPan2Dxyzmm([(1 - zoom) * x, (1 - zoom) * y, (1 - zoom) * z, zoom].map((part) => part || 0));
      const { leftTopWidthHeight: [, , pixels], fovMM: [mm] } = this.viewer.screenSlices[0];
      this.viewer.setCrosshairWidth(CROSS_PIXELS * devicePixelRatio * Math.abs(mm / pixels));
    }

    #step(event) {
      const step = STEPS[event.key];
      if (!step) return;
      event.preventDefault();
      event.stopPropagation();
      this.viewer.moveCrosshairInVox(...step);
    }

    /** What lies under the cross, in words. */
    #describe() {
      const at = this.viewer.frac2vox(this.viewer.scene.crosshairPos);
      const under = (kind) => {
        const value = Math.round(this.volumes[kind].getValue(...at));
        return value ? this.colours[kind].all[value]?.[1] ?? `label ${value}` : "background";
      };
      const masks = ["truth", "baseline", "variant"].filter((kind) => this.volumes[kind]);
      const value = this.image.getValue(...at);
      const { global_min: low, global_max: high } = this.image; // of the shades: what lies beyond is one of these two
      const bound = value <= low ? "at most " : value >= high ? "at least " : "";
      const number = String(Number(value.toPrecision(3))).replace("-", "\u2212");
      this.where.textContent = ["Under the cross", `${this.channel} ${bound}${number}`]
        .join(": ") + masks.map((kind) => `; ${kind}: ${under(kind)}`).join("");
    }
  }

  async function toggle(button) {
    const same = open?.button === button;
    open?.close();
    open = null;
    if (same) return;
    open = new Viewer(button);
    try {
      if (!document.createElement("canvas").getContext("webgl2")) throw Error("this browser has no WebGL2");
      await open.start();
    } catch (error) {
      open.row.cells[0].replaceChildren(element("p", { role: "alert" }, `The images cannot be shown: ${error.message}.`));
      console.error(error);
    }
  }

  for (const line of document.querySelectorAll(".without-script")) line.hidden = true;
  let done = Promise.resolve(); // one click after the other: a viewer cannot be closed while it is being set up
  for (const button of document.querySelectorAll(".show-case")) {
    button.hidden = false;
    button.addEventListener("click", () => { done = done.finally(() => toggle(button)); });
  }
})();

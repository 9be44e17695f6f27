// Browsers start no workers from files. So that the search of a site that lies in a folder works, a
// frame stands in for the worker there; served over HTTP, nothing is changed.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(address) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      this.inside = frame.contentWindow;
      this.isReady = new Promise((done) => frame.addEventListener("load", done, { once: true }));
      this.inside.document.open();
      this.inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      const source = new URL(address, document.baseURI).href;
      this.inside.document.write(`<script src="${source}"></` + "script>");
      this.inside.document.close();
    }

    postMessage(data) {
      this.isReady.then(() =>
        this.inside.dispatchEvent(new this.inside.MessageEvent("message", { data })),
      );
    }
  };
}

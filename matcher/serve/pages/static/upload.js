// Shows how much of an upload was sent. Without this script the form works as well.
const form = document.getElementById("upload");
const status = document.getElementById("sending");

form?.addEventListener("submit", (event) => {
  const inputs = [...form.querySelectorAll('input[type="file"]')];
  event.preventDefault();
  if (!inputs.some((input) => input.files.length)) {
    status.textContent = form.dataset.missing;
    return;
  }
  const body = new FormData();
  for (const input of form.querySelectorAll("input")) {
    if (input.type !== "file") {
      body.append(input.name, input.value);
    }
    for (const file of input.files ?? []) {
      body.append(input.name, file, file.webkitRelativePath || file.name);
    }
  }
  const request = new XMLHttpRequest();
  request.open("POST", form.action);
  request.setRequestHeader("Accept", "text/html");
  request.upload.addEventListener("progress", (sent) => {
    const share = sent.total ? Math.floor((100 * sent.loaded) / sent.total) : 0;
    status.textContent = form.dataset.sending.replace("{share}", `${share} %`);
  });
  request.addEventListener("load", () => {
    if (request.status < 400) {
      location.assign(request.responseURL);
    } else {
      const page = new DOMParser().parseFromString(request.responseText, "text/html");
      status.textContent = page.querySelector('[role="alert"]')?.textContent ?? request.responseText;
      form.querySelector("button").disabled = false;
    }
  });
  request.addEventListener("error", () => {
    status.textContent = "";
    form.querySelector("button").disabled = false;
    form.submit();
  });
  form.querySelector("button").disabled = true;
  request.send(body);
});

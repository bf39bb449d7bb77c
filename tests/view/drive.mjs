// Drives the view in a real Chromium, inside the official host bridge, against the real server.
//
//     node drive.mjs MODULES MCP_URL EMULATOR_ORIGIN PICTURE GALLERY [SCREENSHOTS]
//
// Prints a line for each check; the exit status is how many failed.
import { mkdtemp, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { serve } from "./servers.mjs";

const [modules, mcp, emulator, picture, gallery, screenshots] = process.argv.slice(2);
const { chromium } = createRequire(join(modules, "x.js"))("playwright-core");
const here = import.meta.dirname;
const SECONDS = 40_000;
let failed = 0;

function check(what, is, found = "") {
  failed += !is;
  console.log(`${is ? "ok  " : "FAIL"}  view: ${what}${is ? "" : `\n       found: ${JSON.stringify(found)}`}`);
}

async function script(outcome) {
  const body = JSON.stringify(outcome);
  await fetch(`${emulator}/_emulator/outcomes`, { method: "POST", body, headers: { "content-type": "application/json" } });
}

// A page of the host, and all that its view broke or asked the network for.
async function opened(browser, origins, size = { width: 760, height: 900 }, options = {}) {
  const context = await browser.newContext({ viewport: size, ...options });
  const page = await context.newPage();
  const told = { violations: [], errors: [], elsewhere: [], pictures: [] };
  page.on("console", (message) => {
    if (/Content Security Policy|violates/.test(message.text())) told.violations.push(message.text());
    else if (message.type() === "error" && !/favicon|404/.test(message.text())) told.errors.push(message.text());
  });
  page.on("pageerror", (error) => told.errors.push(String(error)));
  page.on("request", (asked) => {
    const { origin, protocol } = new URL(asked.url());
    if (protocol === "data:") return;
    if (origin === emulator) told.pictures.push(asked.url());
    else if (origin !== origins.host && origin !== origins.sandbox) told.elsewhere.push(asked.url());
  });
  await page.addInitScript(() => addEventListener("securitypolicyviolation", (event) => console.log(`violates ${event.violatedDirective} ${event.blockedURI}`)));
  await page.goto(origins.host);
  await page.waitForFunction(() => window.play);
  const view = page.frameLocator("iframe >> nth=0").frameLocator("iframe");
  return { page, view, told, context, play: (args, more) => page.evaluate(([one, two]) => window.play(one, two), [args, { sandbox: origins.sandbox, ...more }]) };
}

const isLoaded = (picture) => picture.evaluate((it) => {
  if (it.tagName === "IMG") return it.complete && it.naturalWidth > 0;
  const { data } = it.getContext("2d").getImageData(it.width / 2, it.height / 2, 8, 8);
  return it.tagName === "CANVAS" && data.every((value, i) => i % 4 < 3 || value === 255) && data.some((value, i) => i % 4 < 3 && value > 0);
});
const heard = (page) => page.evaluate(() => window.heard);
// A picture for the documents names no folder of this machine.
async function shot(stage, name) {
  if (!screenshots) return;
  await stage.view.locator("dd.saved").evaluateAll((all) => all.forEach((it) => {
    it.textContent = it.textContent.replace(/.*\/(?=[^/]*$)/gm, "/home/me/Pictures/wan25/");
  }));
  await stage.page.locator("iframe").first().screenshot({ path: join(screenshots, `${name}.png`) });
}
const title = (view, text) => view.locator("h1", { hasText: text }).waitFor({ timeout: SECONDS });

async function quiet(stage, what) {
  check(`${what}: no policy violated`, stage.told.violations.length === 0, stage.told.violations);
  check(`${what}: no error on the page`, stage.told.errors.length === 0, stage.told.errors);
  check(`${what}: no request to anywhere else`, stage.told.elsewhere.length === 0, stage.told.elsewhere);
  check(`${what}: the model heard nothing of it`, (await heard(stage.page)).model.length === 0);
}

async function watchProgress(view) {
  const seen = new Set();
  for (const end = Date.now() + SECONDS; Date.now() < end;) {
    if (await view.locator("#page.working").count() === 0) break;
    const value = await view.locator("#progress").getAttribute("value");
    if (value !== null) seen.add(Number(value));
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  return [...seen];
}

async function alone(browser, origins) {
  const what = "a local picture, links allowed";
  const stage = await opened(browser, origins);
  const { page, view, told } = stage;
  const made = await stage.play({ prompt: "Turn the day into a warm evening; keep everything else unchanged", image_urls: [picture] }, { policy: true });
  check("only edit_image has the view, and its answer has one block", made.others.join() === "edit_image" && made.blocks === 1, made);
  check("the declared origins are the emulator's alone", made.declared.csp.resourceDomains.every((one) => new URL(one).origin === emulator) && !made.declared.csp.connectDomains, made.declared);
  await view.locator("#before").waitFor({ timeout: SECONDS });
  check(`${what}: the picture is seen while it is edited`, await isLoaded(view.locator("#before")));
  await shot(stage, "working");
  const progress = await watchProgress(view);
  check(`${what}: progress moved`, progress.length >= 2 && progress.every((value, i) => i === 0 || value > progress[i - 1]), progress);
  await title(view, "Edit done");
  await view.locator("#after").waitFor({ timeout: SECONDS });
  check(`${what}: both pictures loaded`, await isLoaded(view.locator("#before")) && await isLoaded(view.locator("#after")));
  check(`${what}: the result by its link`, (await view.locator("#after").getAttribute("src")).startsWith(emulator) && told.pictures.length > 0);
  await shot(stage, "done");
  await compare(view, what);
  await act(stage, what);
  const calls = (await heard(page)).calls;
  const gaps = calls.slice(1).map(([, at], i) => at - calls[i][1]);
  check(`${what}: get_task alone was called, at least 3.9 s apart`, calls.every(([name]) => name === "get_task") && gaps.every((gap) => gap >= 3900), calls);
  await quiet(stage, what);
  await dressed(stage, what);
  await page.waitForTimeout(4500);
  check(`${what}: settled, so nothing more was asked`, (await heard(page)).calls.length === calls.length);
  await stage.context.close();
}

async function compare(view, what) {
  const slider = view.getByRole("slider", { name: "Compare before and after" });
  const cut = () => view.locator("#canvas").evaluate((it) => it.style.getPropertyValue("--cut"));
  await slider.focus();
  for (let i = 0; i < 10; i++) await slider.press("ArrowRight");
  check(`${what}: the slider moves by keyboard`, await cut() === "60%", await cut());
  check(`${what}: and says where it is`, await slider.getAttribute("aria-valuetext") === "60 % before, 40 % after");
  const box = await view.locator("#canvas").boundingBox();
  const mouse = view.locator("#canvas");
  await mouse.dispatchEvent("pointerdown", { clientX: 0, buttons: 1 });
  check(`${what}: and by pointer`, box.width > 200 && await cut() === "0%", await cut());
  await slider.press("Home");
  for (let i = 0; i < 50; i++) await slider.press("ArrowRight");
  await view.getByRole("button", { name: "Zoom in" }).press("Enter");
  await view.getByRole("button", { name: "Zoom in" }).press("Enter");
  const wide = await view.locator("#frame").evaluate((it) => it.scrollWidth / it.clientWidth);
  check(`${what}: it zooms`, wide > 1.5 && await view.locator("#zoomed").textContent() === "200 %", wide);
  await view.getByRole("button", { name: "Zoom out" }).press("Enter");
  await view.getByRole("button", { name: "Zoom out" }).press("Enter");
}

async function act({ page, view }, what) {
  await view.getByRole("button", { name: "Use as next input" }).click();
  await view.getByRole("button", { name: "Download" }).click();
  await view.locator("#said", { hasText: "Opened" }).waitFor({ timeout: SECONDS });
  const { messages, links } = await heard(page);
  check(`${what}: "use as next input" is a message with the link`, messages.length === 1 && messages[0].role === "user" && messages[0].content[0].text.includes(`${emulator}/`), messages);
  check(`${what}: download opens the link`, links.length === 1 && links[0].startsWith(emulator), links);
  const facts = await view.locator("#facts").innerText();
  check(`${what}: cost, expiry and file are told`, /1\.5 credits/.test(facts) && /in 23 h 59 min/.test(facts) && /Saved/.test(facts), facts);
}

async function dressed(stage, what) {
  const { page, view } = stage;
  await view.locator("#said").evaluate((it) => { it.textContent = ""; });
  await page.evaluate(async () => { document.body.className = "dark"; await window.bridge.setHostContext({ theme: "dark" }); });
  await page.waitForTimeout(300);
  const ground = await view.locator("body").evaluate((it) => getComputedStyle(it).backgroundColor);
  check(`${what}: dark when the host is`, /^rgb\((1|2|3)\d, /.test(ground), ground);
  await shot(stage, "dark");
  await page.setViewportSize({ width: 320, height: 720 });
  await page.evaluate(async () => { document.body.className = "narrow"; await window.bridge.setHostContext({ theme: "light" }); });
  await page.waitForTimeout(300);
  const over = await view.locator("html").evaluate((it) => it.scrollWidth - it.clientWidth);
  check(`${what}: fits 320 px`, over <= 0, over);
  await shot(stage, "narrow");
}

async function several(browser, origins) {
  const what = "two linked pictures, three results, links blocked";
  const stage = await opened(browser, origins, { width: 760, height: 1000 });
  const { page, view, told } = stage;
  const samples = await Promise.all([0, 1].map(async () => (await (await fetch(`${emulator}/_emulator/samples`, { method: "POST", body: JSON.stringify({ width: 900, height: 600 }) })).json()).url));
  await stage.play({ prompt: "Put the object of image 1 into the scene of image 2", image_urls: [picture, samples[0]], n: 3 }, { downloads: true });
  await hiddenFor(4600, stage, what);
  await title(view, "Edit done");
  await view.locator("#after").waitFor({ timeout: SECONDS });
  await view.locator("#results canvas").nth(2).waitFor({ timeout: SECONDS });
  check(`${what}: a preview is shown`, await view.locator("canvas#after").evaluate((it) => it.width) === 768 && await isLoaded(view.locator("#after")));
  await view.getByRole("button", { name: "Result 2 of 3" }).click();
  check(`${what}: the second of them is chosen`, await view.getByRole("button", { name: "Result 2 of 3" }).getAttribute("aria-pressed") === "true");
  check(`${what}: of a linked input only its place is told`, (await view.locator("#inputs").innerText()).includes("linked, at 127.0.0.1"));
  await shot(stage, "several");
  await view.getByRole("button", { name: "Download" }).click();
  await view.locator("#said", { hasText: "Downloaded" }).waitFor({ timeout: SECONDS });
  const [[download]] = (await heard(page)).downloads;
  check(`${what}: the host is given the picture itself`, download.resource?.mimeType === "image/png" && download.resource.blob.length > 10_000, download.type);
  await view.getByRole("button", { name: "Zoom in" }).click();
  const wide = await view.locator("#after").evaluate(async (it) => {
    for (let i = 0; i < 200 && document.getElementById("after").width <= 768; i++) await new Promise((next) => setTimeout(next, 50));
    return document.getElementById("after").width;
  });
  check(`${what}: enlarged, it is the picture itself`, wide > 1000 && await isLoaded(view.locator("#after")), wide);
  check(`${what}: the browser asked the provider for nothing`, told.pictures.length === 0, told.pictures);
  await quiet(stage, what);
  await stage.context.close();
}

async function hiddenFor(milliseconds, { page, view }, what) {
  const turn = (is) => view.locator("html").evaluate((_, hidden) => {
    Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
  }, is);
  await turn(true);
  await page.waitForTimeout(milliseconds);
  check(`${what}: while it is hidden, nothing is asked`, (await heard(page)).calls.length === 0);
  await turn(false);
}

// Submits its edit and returns: the script that fails it is for the next one.
async function refused(browser, origins) {
  const what = "an edit that fails";
  const stage = await opened(browser, origins, { width: 760, height: 500 }, { reducedMotion: "reduce" });
  await script({ fail: "content_policy_violation", run_seconds: 60 });
  await stage.play({ prompt: "Remove the watermark", image_urls: [picture] }, { policy: true, theme: "dark" });
  return () => refusalSeen(stage, what);
}

async function refusalSeen(stage, what) {
  await title(stage.view, "Edit failed");
  const said = await stage.view.getByRole("alert").innerText();
  check(`${what}: says why, what to do and that it cost nothing`, /content_policy_violation/.test(said) && said.split("\n").length > 2 && /nothing was charged/.test(await stage.view.locator("#facts").innerText()), said);
  check(`${what}: nothing moves for who wants no motion`, await stage.view.locator(".dot").evaluate((it) => getComputedStyle(it).animationName) === "none");
  await shot(stage, "failed");
  await quiet(stage, what);
  await stage.context.close();
}

const EVIL = "<img src=x onerror=\"top.postMessage('evil','*');document.title='evil'\"><script>document.title='evil'</script>";

async function hostile(browser, origins) {
  const what = "hostile answers and messages";
  const stage = await opened(browser, origins);
  const { page, view } = stage;
  const answer = {
    status: "completed", task_id: "../../x", progress: "<b>", image_urls: ["javascript:document.title='evil'", "file:///etc/passwd", "data:text/html,evil", EVIL],
    expires_at: EVIL, saved: [EVIL, { toString: 1 }], usage: { credits_used: "NaN", credits_reserved: -1 }, charged: EVIL,
    duplicate_of_earlier_call: "yes", next_step: 7, error: { message: EVIL, fix: EVIL, code: [EVIL], retry_after_seconds: "1e999" },
  };
  await stage.play({ prompt: EVIL, image_urls: ["javascript:alert(1)", `data:image/svg+xml,${EVIL}`, {}] }, { policy: true, result: { content: [{ type: "text", text: EVIL }], structuredContent: answer } });
  await title(view, "Edit done");
  await page.evaluate(() => {
    const frame = document.createElement("iframe");  // another window of the same page, and odd shapes from the host
    document.body.append(frame);
    const view = document.querySelector("iframe").contentWindow[0];
    const evil = { jsonrpc: "2.0", method: "ui/notifications/tool-result", params: { structuredContent: { status: "failed", error: { message: "from another window" } } } };
    frame.contentWindow.eval(`parent.document.querySelector("iframe").contentWindow[0].postMessage(${JSON.stringify(evil)}, "*")`);
    view.postMessage(evil, "*");
    const through = document.querySelector("iframe").contentWindow;
    for (const odd of [null, 7, "x", [], { jsonrpc: "2.0" }, { jsonrpc: "2.0", id: 99, result: {} }, { jsonrpc: "2.0", method: "constructor" },
      { jsonrpc: "2.0", method: "ui/notifications/host-context-changed", params: { theme: 7, styles: { variables: { "--x": "url(https://evil.example)", "color": "red" } }, availableDisplayModes: "x" } },
      { jsonrpc: "2.0", method: "ui/notifications/tool-input", params: [] }]) through.postMessage(odd, "*");
  });
  await page.waitForTimeout(500);
  check(`${what}: another window is not heard`, !(await view.locator("body").innerText()).includes("from another window"));
  check(`${what}: shown as text, run as nothing`, (await view.locator("#remedy").textContent()) === EVIL && await view.locator("html").evaluate(() => document.title) === "Image edit");
  check(`${what}: no picture but data and http`, (await view.locator("img[src]").evaluateAll((all) => all.map((one) => one.src))).every((src) => /^(https?:|data:image\/)/.test(src)));
  await view.getByRole("button", { name: "Download" }).click();
  await view.locator("#said", { hasText: "no link" }).waitFor({ timeout: SECONDS });
  check(`${what}: no link but http`, (await heard(page)).links.length === 0, (await heard(page)).links);
  await quiet(stage, what);
  await stage.context.close();
}

async function gallerySeen(browser) {
  const what = "the gallery";
  const context = await browser.newContext({ viewport: { width: 1120, height: 860 } });
  const page = await context.newPage();
  const wrong = [];
  const origin = new URL(gallery).origin;
  page.on("console", (message) => { if (message.type() === "error" && !/404/.test(message.text())) wrong.push(message.text()); });
  page.on("pageerror", (error) => wrong.push(String(error)));
  page.on("request", (asked) => { if (!asked.url().startsWith(`${origin}/`) && !asked.url().startsWith("data:")) wrong.push(asked.url()); });
  await page.goto(gallery);
  await page.locator("article").nth(2).waitFor({ timeout: SECONDS });
  const compared = page.locator("article", { hasText: "Turn the day" });
  await compared.locator(".before:not([hidden])").waitFor({ timeout: SECONDS });
  check(`${what}: before and after of an edit loaded`, await isLoaded(compared.locator(".before")) && await isLoaded(compared.locator(".after")));
  const slider = compared.getByRole("slider");
  await slider.press("ArrowLeft");
  check(`${what}: its slider moves by keyboard`, await compared.locator(".canvas").evaluate((it) => it.style.getPropertyValue("--cut")) === "49%");
  const told = await page.locator("main").innerText();
  check(`${what}: cost, expiry, totals and failures are told`, /3 edits, 6 credits in 30 days/.test(told) && /in 23 h 59 min/.test(told) && /nothing was charged/.test(told) && /content policy/.test(told), told);
  if (screenshots) await page.screenshot({ path: join(screenshots, "gallery.png") });
  await page.getByRole("searchbox").fill("warm evening");
  check(`${what}: searches`, await page.locator("article").count() === 1);
  await page.getByRole("button", { name: "Show all" }).click();
  await page.getByLabel("State").selectOption("failed");
  check(`${what}: filters by state`, await page.locator("article").count() === 1 && await page.locator("article.failed").count() === 1);
  await page.getByRole("button", { name: "Show all" }).click();
  await page.locator(".bars button:enabled").last().click();
  check(`${what}: a day shows its edits`, await page.locator("article").count() === 3);
  await compared.getByRole("button", { name: "Open" }).click();
  check(`${what}: opens the picture itself`, await page.locator("#picture").evaluate(async (it) => { await it.decode(); return it.naturalWidth > 1000; }));
  await page.keyboard.press("Escape");
  await page.emulateMedia({ colorScheme: "dark" });
  await page.setViewportSize({ width: 320, height: 800 });
  check(`${what}: fits 320 px`, await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
  if (screenshots) await page.screenshot({ path: join(screenshots, "gallery-narrow.png") });
  check(`${what}: no policy violated, no request elsewhere`, wrong.length === 0, wrong);
  for (const [path, status] of [["edits.json", 200], ["../wrong/edits.json", 404], ["../edits.json", 404], ["edits/x/images/1", 404]]) {
    const answer = await fetch(new URL(path, gallery));
    check(`${what}: ${path} is ${status}`, answer.status === status, answer.status);
  }
  await context.close();
}

const profile = await mkdtemp(join(tmpdir(), "view-"));
const origins = await serve(here, modules, mcp);
const browser = await chromium.launch({
  executablePath: process.env.WAN25_CHROMIUM ?? "/usr/bin/chromium",
  args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
try {
  const refusal = await refused(browser, origins);
  const ended = await Promise.allSettled([refusal(), alone(browser, origins), several(browser, origins), hostile(browser, origins)]);
  for (const { reason } of ended) if (reason) check(`a scenario ended early: ${reason.message}`, false);
  await gallerySeen(browser);
} catch (error) {
  check(`a scenario ended early: ${error.message}`, false);
} finally {
  await browser.close();
  origins.close();
  await rm(profile, { recursive: true });
}
process.exitCode = failed;

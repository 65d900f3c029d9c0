// Vercel's AI SDK against a server with the demo model: BASE_URL names the server.

import assert from "node:assert/strict";
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, embedMany, generateObject, generateText, jsonSchema, streamText, tool } from "ai";
import { z } from "zod";

const base = process.env.BASE_URL.replace(/\/$/, "") + "/v1";
const compatible = createOpenAICompatible({
    name: "rfgraph", baseURL: base, includeUsage: true, supportsStructuredOutputs: true,
});
const openai = createOpenAI({ baseURL: base, apiKey: "none" });
const anthropic = createAnthropic({ baseURL: base, apiKey: "none" });
const doors = {
    compatible: compatible("demo"),
    "openai chat": openai.chat("demo"),
    "openai responses": openai.responses("demo"),
    anthropic: anthropic("demo"),
};
const question = { prompt: "What is 347 + 285?", maxRetries: 0 };
// Short, since the demo model has a context of 512 tokens.
const digit = { type: "integer", minimum: 0, maximum: 9 };
const add = tool({
    inputSchema: jsonSchema({
        type: "object", properties: { a: digit, b: digit }, required: ["a", "b"], additionalProperties: false,
    }),
});

const checks = {
    async whole() {
        for (const [name, model] of Object.entries(doors)) {
            const answer = await generateText({ model, temperature: 0, maxOutputTokens: 50, ...question });
            assert.equal(answer.text, "632", name);
            assert.equal(answer.finishReason, "stop", name);
            assert.ok(answer.usage.inputTokens > 5 && answer.usage.outputTokens >= 3, name);
        }
    },
    async streamed() {
        for (const [name, model] of Object.entries(doors)) {
            const errors = [];
            const stream = streamText({
                model, temperature: 0, maxOutputTokens: 50, onError: ({ error }) => errors.push(error), ...question,
            });
            let text = "";
            for await (const piece of stream.textStream) text += piece;
            assert.deepEqual(errors, [], name);
            assert.equal(text, "632", name);
            assert.equal(await stream.finishReason, "stop", name);
            assert.ok((await stream.usage).outputTokens >= 3, name);
        }
    },
    async calls() {
        for (const [name, model] of Object.entries(doors)) {
            const ask = {
                model, tools: { add }, toolChoice: { type: "tool", toolName: "add" }, maxOutputTokens: 200, ...question,
            };
            const answer = await generateText(ask);
            assert.deepEqual(Object.keys(answer.toolCalls[0].input).sort(), ["a", "b"], name);
            assert.equal(answer.finishReason, "tool-calls", name);
            const stream = streamText(ask);
            const kinds = [];
            for await (const part of stream.fullStream) kinds.push(part.type);
            const [call] = await stream.toolCalls;
            assert.equal(call.toolName, "add", name);
            assert.deepEqual(Object.keys(call.input).sort(), ["a", "b"], name);
            // The arguments come in pieces, not at the end.
            assert.ok(kinds.filter((kind) => kind === "tool-input-delta").length > 1, `${name}: ${kinds}`);
        }
    },
    async objects() {
        const schema = z.object({ sum: z.number().int(), sure: z.boolean() });
        for (const name of ["compatible", "openai chat", "openai responses"]) {
            const found = await generateObject({ model: doors[name], schema, maxOutputTokens: 120, ...question });
            assert.ok(Number.isInteger(found.object.sum), name);
        }
    },
    async errors() {
        const failure = async (ask) => {
            try {
                await generateText({ ...question, ...ask });
            } catch (error) {
                assert.ok(APICallError.isInstance(error), error);
                return error;
            }
            throw new Error("it was answered");
        };
        assert.equal((await failure({ model: openai.chat("gpt-5") })).statusCode, 404);
        const long = await failure({ model: doors.compatible, prompt: "word ".repeat(2000) });
        assert.equal(long.statusCode, 400);
        assert.match(long.message, /context/);
    },
    async embeddings() {
        const model = compatible.textEmbeddingModel("demo");
        const { embeddings } = await embedMany({ model, values: ["one", "two"], maxRetries: 0 });
        assert.equal(embeddings.length, 2);
        assert.ok(Math.abs(embeddings[0].reduce((sum, x) => sum + x * x, 0) - 1) < 1e-4);
    },
    async cancelled() {
        for (let i = 0; i < 10; i++) {
            const stop = new AbortController();
            const stream = streamText({
                model: doors.compatible, abortSignal: stop.signal, onError() {}, ...question,
            });
            for await (const _ of stream.textStream) {
                stop.abort();
                break;
            }
        }
        const answer = await generateText({ model: doors.compatible, temperature: 0, ...question });
        assert.equal(answer.text, "632");
    },
};

for (const [name, check] of Object.entries(checks)) {
    await check();
    console.log("ok", name);
}

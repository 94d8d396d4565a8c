/**
 * The job as the documentation of Powertools for AWS Lambda (TypeScript) teaches it: all records of a batch at once.
 *
 * - batch, with a schema: https://docs.aws.amazon.com/powertools/typescript/latest/features/batch/#parser-integration
 * - secret: https://docs.aws.amazon.com/powertools/typescript/latest/features/parameters/#fetching-secrets
 * - logger: https://docs.aws.amazon.com/powertools/typescript/latest/features/logger/
 * - metrics: https://docs.aws.amazon.com/powertools/typescript/latest/features/metrics/
 * - bundled by esbuild, as `sam init` sets up: https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/serverless-sam-cli-using-build-typescript.html
 */
import { BatchProcessor, EventType, processPartialResponse } from "@aws-lambda-powertools/batch";
import { parser } from "@aws-lambda-powertools/batch/parser";
import { Logger } from "@aws-lambda-powertools/logger";
import { Metrics, MetricUnit } from "@aws-lambda-powertools/metrics";
import { getSecret } from "@aws-lambda-powertools/parameters/secrets";
import { z } from "zod";

const baseUrl = process.env.THRIVE_BASE_URL;

const Completion = z.object({
  userId: z.string().min(1).max(256),
  contentId: z.string().min(1).max(256),
  completedAt: z.iso.datetime({ offset: true }),
});

const logger = new Logger();
const metrics = new Metrics();
const processor = new BatchProcessor(EventType.SQS, { parser, innerSchema: Completion, transformer: "json", logger });

let token = { value: undefined, goodUntil: 0 };

const fetchToken = async () => {
  const secret = await getSecret(process.env.THRIVE_SECRET_ID, { transform: "json", maxAge: 300 });
  const answer = await fetch(`${baseUrl}/oauth2/token/${encodeURIComponent(secret.tenantId)}`, {
    method: "POST",
    body: new URLSearchParams({
      grant_type: "client_credentials",
      client_id: secret.clientId,
      client_secret: secret.clientSecret,
      scope: "api/write",
    }),
  });
  if (!answer.ok) throw new Error(`the token endpoint answered ${answer.status}`);
  const fields = await answer.json();
  return fields;
};

const bearer = () => {
  if (Date.now() > token.goodUntil) {
    // Those who come while it is being fetched wait for the same one.
    token = {
      goodUntil: Date.now() + 55 * 60 * 1000,
      value: fetchToken().then(
        (fields) => `Bearer ${fields.access_token}`,
        (error) => {
          token.goodUntil = 0;
          throw error;
        },
      ),
    };
  }
  return token.value;
};

const recordHandler = async ({ messageId, body }) => {
  const authorization = await bearer();
  const started = performance.now();
  const answer = await fetch(`${baseUrl}/rest/v1/learning/completions`, {
    method: "POST",
    headers: { "Content-Type": "application/json", Authorization: authorization },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(10_000),
  });
  const fields = await answer.json();
  const milliseconds = performance.now() - started;
  metrics.addMetric("ApiLatency", MetricUnit.Milliseconds, milliseconds);
  if (!answer.ok) throw new Error(`Thrive answered ${answer.status}`);
  metrics.addMetric("CompletionsCreated", MetricUnit.Count, 1);
  logger.info("created", {
    message_id: messageId,
    status: answer.status,
    statement_id: fields.statementId,
    user_id: body.userId,
    content_id: body.contentId,
    duration_ms: Math.round(milliseconds * 10) / 10,
  });
};

export const handler = async (event, context) => {
  logger.addContext(context);
  try {
    return await processPartialResponse(event, recordHandler, processor, { context });
  } finally {
    metrics.publishStoredMetrics();
  }
};

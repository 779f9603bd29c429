/* A kernel for `deltatape check --plugin`, in plain C: the recurrence, token after token, and its backward through time.
 * Slow and easy to follow; replace `forward` and `backward` with calls of your own kernel.
 *
 *   cc -O2 -shared -fPIC -I DELTATAPE/harness/plugin my_kda.c -o libmy_kda.so -lm
 *   deltatape check --plugin ./libmy_kda.so --dtype f32,f64 --space 'gate=none,packing=rows|cu_seqlens'
 *
 * It computes in double and does f64 and f32, initial and final states, value heads in groups, and cu_seqlens. What it
 * does not do (gates, norms, segment_ids, 16 bits, ..) it says, and such cases are not counted against it.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "deltatape_plugin.h"

int32_t deltatape_plugin_abi_version(void) { return DELTATAPE_PLUGIN_ABI_VERSION; }
const char* deltatape_plugin_name(void) { return "my_kda"; }
const char* deltatape_plugin_results(void) { return "o,ht,dq,dk,dv,dg,dbeta,dh0"; }

/* The tensor of this name among `count`; NULL when the call does not have it. */
static const deltatape_tensor* find(const deltatape_tensor* tensors, int32_t count, const char* name) {
  for (int32_t i = 0; i < count; ++i) {
    if (strcmp(tensors[i].name, name) == 0) {
      return &tensors[i];
    }
  }
  return NULL;
}

static int64_t elements(const deltatape_tensor* x) {
  int64_t count = 1;
  for (int32_t i = 0; i < x->rank; ++i) {
    count *= x->shape[i];
  }
  return count;
}

/* `count` doubles that are 0; NULL when there is no memory. */
static double* zeros(int64_t count) { return calloc(count > 0 ? (size_t)count : 1, sizeof(double)); }

/* The input of this name as doubles; `count` zeros when the call does not have it. */
static double* load(const deltatape_kda_call* call, const char* name, int64_t count) {
  const deltatape_tensor* x = find(call->inputs, call->input_count, name);
  double* values = zeros(count);
  for (int64_t i = 0; x != NULL && values != NULL && i < count; ++i) {
    values[i] = x->dtype == DELTATAPE_F64 ? ((const double*)x->data)[i] : (double)((const float*)x->data)[i];
  }
  return values;
}

/* Writes a result, if it is wanted. */
static void store(const deltatape_kda_call* call, const char* name, const double* values) {
  const deltatape_tensor* x = find(call->results, call->result_count, name);
  for (int64_t i = 0; x != NULL && i < elements(x); ++i) {
    if (x->dtype == DELTATAPE_F64) {
      ((double*)x->data)[i] = values[i];
    } else {
      ((float*)x->data)[i] = (float)values[i];
    }
  }
}

/* Everything as doubles; all that belongs to one call. */
enum { Q, KEY, VALUE, G, BETA, H0, DO, DHT, O, HT, DQ, DK, DV, DG, DBETA, DH0, STATES, COUNT };

/* What one sequence and one value head need: where their rows are. */
struct head {
  int64_t K, V, L;        /* sizes; tokens of the sequence */
  int64_t q, q_step;      /* the first row of q and k, and how far it is to the next one */
  int64_t v, v_step;      /* v, o */
  int64_t g, g_step;      /* g */
  int64_t beta, beta_step;
  int64_t state;          /* h0, ht */
  double scale;
};

/* states[t] is the state before token t, K x V.
 *   S~ = diag(exp g) S;  S = S~ + beta k (v - S~' k)';  o = scale S' q */
static void forward(const struct head* a, double* const* x) {
  const int64_t size = a->K * a->V;
  memcpy(x[STATES], x[H0] + a->state, (size_t)size * sizeof(double));
  for (int64_t t = 0; t < a->L; ++t) {
    const double* q = x[Q] + a->q + t * a->q_step;
    const double* k = x[KEY] + a->q + t * a->q_step;
    const double* g = x[G] + a->g + t * a->g_step;
    const double beta = x[BETA][a->beta + t * a->beta_step];
    const double* before = x[STATES] + t * size;
    double* after = x[STATES] + (t + 1) * size;
    for (int64_t j = 0; j < a->V; ++j) {
      double predicted = 0.0, out = 0.0;
      for (int64_t i = 0; i < a->K; ++i) {
        after[i * a->V + j] = exp(g[i]) * before[i * a->V + j];
        predicted += k[i] * after[i * a->V + j];
      }
      const double written = beta * (x[VALUE][a->v + t * a->v_step + j] - predicted);
      for (int64_t i = 0; i < a->K; ++i) {
        after[i * a->V + j] += k[i] * written;
        out += q[i] * after[i * a->V + j];
      }
      x[O][a->v + t * a->v_step + j] = a->scale * out;
    }
  }
  memcpy(x[HT] + a->state, x[STATES] + a->L * size, (size_t)size * sizeof(double));
}

/* The same from the last token to the first. dS, the gradient of the state behind token t, is kept in dh0. q and k
 * belong to a group of value heads, so their gradients are sums. */
static void backward(const struct head* a, double* const* x) {
  const int64_t size = a->K * a->V;
  double* dS = x[DH0] + a->state;
  memcpy(dS, x[DHT] + a->state, (size_t)size * sizeof(double));
  for (int64_t t = a->L - 1; t >= 0; --t) {
    const int64_t q_row = a->q + t * a->q_step, v_row = a->v + t * a->v_step, g_row = a->g + t * a->g_step;
    const int64_t beta_row = a->beta + t * a->beta_step;
    const double *q = x[Q] + q_row, *k = x[KEY] + q_row, *g = x[G] + g_row;
    const double* before = x[STATES] + t * size;
    const double* after = before + size;
    const double beta = x[BETA][beta_row];
    for (int64_t j = 0; j < a->V; ++j) {
      const double d_out = a->scale * x[DO][v_row + j];
      double error = x[VALUE][v_row + j], d_written = 0.0;
      for (int64_t i = 0; i < a->K; ++i) {
        error -= k[i] * exp(g[i]) * before[i * a->V + j];
        dS[i * a->V + j] += q[i] * d_out;
        d_written += k[i] * dS[i * a->V + j];
        x[DQ][q_row + i] += after[i * a->V + j] * d_out;
      }
      const double d_error = beta * d_written;
      x[DV][v_row + j] = d_error;
      x[DBETA][beta_row] += d_written * error;
      for (int64_t i = 0; i < a->K; ++i) {
        const double decayed = exp(g[i]) * before[i * a->V + j];
        x[DK][q_row + i] += dS[i * a->V + j] * beta * error - decayed * d_error;
        const double d_decayed = dS[i * a->V + j] - k[i] * d_error;
        x[DG][g_row + i] += d_decayed * decayed;
        dS[i * a->V + j] = exp(g[i]) * d_decayed;
      }
    }
  }
}

/* All sequences and value heads. `ends` are the cu_seqlens, or NULL: rows of T tokens. */
static void run_heads(const deltatape_kda_call* c, const int64_t* ends, double* const* x) {
  const int64_t group = c->HV / c->H;
  for (int64_t n = 0; n < c->N; ++n) {
    const int64_t first = ends != NULL ? ends[n] : n * c->T; /* token, over all rows */
    const int64_t length = ends != NULL ? ends[n + 1] - ends[n] : c->T;
    for (int64_t hv = 0; hv < c->HV; ++hv) {
      const struct head a = {c->K, c->V, length, (first * c->H + hv / group) * c->K, c->H * c->K,
                             (first * c->HV + hv) * c->V, c->HV * c->V, (first * c->HV + hv) * c->K, c->HV * c->K,
                             first * c->HV + hv, c->HV, (n * c->HV + hv) * c->K * c->V, c->scale};
      forward(&a, x);
      if (c->backward) {
        backward(&a, x);
      }
    }
  }
}

/* Why this kernel is not for the call; NULL when it is. */
static const char* refusal(const deltatape_kda_call* c) {
  if (c->dtype != DELTATAPE_F32 && c->dtype != DELTATAPE_F64) return "only f32 and f64";
  if (c->gate != DELTATAPE_GATE_NONE) return "no gates";
  if (c->use_qk_l2norm) return "no L2 norm";
  if (c->use_beta_sigmoid) return "no sigmoid of beta";
  if (c->state_v_first) return "no states [V,K]";
  if (find(c->inputs, c->input_count, "segment_ids") != NULL) return "no segment_ids";
  return NULL;
}

int32_t deltatape_plugin_run(const deltatape_kda_call* c, char* message, int64_t message_size) {
  const char* reason = refusal(c);
  if (reason != NULL) {
    snprintf(message, (size_t)message_size, "%s", reason);
    return DELTATAPE_UNSUPPORTED;
  }
  const int64_t tokens = c->B * c->T;
  const int64_t qs = tokens * c->H * c->K, vs = tokens * c->HV * c->V, gs = tokens * c->HV * c->K;
  const int64_t betas = tokens * c->HV, hs = c->N * c->HV * c->K * c->V;
  double* x[COUNT] = {load(c, "q", qs),  load(c, "k", qs),  load(c, "v", vs),   load(c, "g", gs), load(c, "beta", betas),
                      load(c, "h0", hs), load(c, "do", vs), load(c, "dht", hs), zeros(vs),        zeros(hs),
                      zeros(qs),         zeros(qs),         zeros(vs),          zeros(gs),        zeros(betas),
                      zeros(hs),         zeros((c->T + 1) * c->K * c->V)};
  int32_t status = DELTATAPE_OK;
  for (int i = 0; i < COUNT; ++i) {
    status = x[i] != NULL ? status : DELTATAPE_FAILED;
  }
  if (status == DELTATAPE_OK) {
    const deltatape_tensor* ends = find(c->inputs, c->input_count, "cu_seqlens");
    run_heads(c, ends != NULL ? (const int64_t*)ends->data : NULL, x);
    const char* names[] = {"o", "ht", "dq", "dk", "dv", "dg", "dbeta", "dh0"};
    for (int i = 0; i < 8; ++i) {
      store(c, names[i], x[O + i]);
    }
  } else {
    snprintf(message, (size_t)message_size, "out of memory");
  }
  for (int i = 0; i < COUNT; ++i) {
    free(x[i]);
  }
  return status;
}

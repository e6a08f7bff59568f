//! Registers the relay as a module of XDR: what the `relay` tool did.

use std::sync::Arc;

use crate::cloud::BaseUrl;
use crate::credentials::Secret;
use crate::http::{Request, Response, Transport};
use crate::limits;
use crate::xdr::api::{self, Call, Client, ModuleType};
use crate::xdr::instance::Instance;
use crate::xdr::plan::Plan;
use crate::xdr::problem::Problem;

/// Speaks to XDR's API as one client.
pub struct Registrar {
    base: BaseUrl,
    client: Client,
    transport: Arc<dyn Transport>,
    token: Option<Secret>,
    /// What must not be seen in a message.
    secrets: Vec<Secret>,
}

impl Registrar {
    /// Speaks to the API at `base`. In no message will there be anything of
    /// `secrets` or of the client's password.
    pub fn new(
        base: BaseUrl,
        client: Client,
        transport: Arc<dyn Transport>,
        mut secrets: Vec<Secret>,
    ) -> Self {
        secrets.push(client.password.clone());
        Self { base, client, transport, token: None, secrets }
    }

    /// All modules of the organisation that the client may see.
    ///
    /// # Errors
    /// Why there is no such list.
    pub fn instances(&mut self) -> Result<Vec<Instance>, Problem> {
        api::instances_of(&self.call(&Call::Instances)?)
    }

    /// All types of modules.
    ///
    /// # Errors
    /// Why there is no such list.
    pub fn types(&mut self) -> Result<Vec<ModuleType>, Problem> {
        api::types_of(&self.call(&Call::Types)?)
    }

    /// Does what was decided.
    ///
    /// # Errors
    /// Why it was not done. After a broken connection or silence it may have
    /// been.
    pub fn carry_out(&mut self, plan: &Plan) -> Result<(), Problem> {
        match call_of(plan) {
            Some(call) => self.call(&call).map(|_| ()),
            None => Ok(()),
        }
    }

    /// One call; refused with 401, once more with a fresh token: the lifetime of
    /// one is ten minutes, and it may be revoked.
    fn call(&mut self, call: &Call<'_>) -> Result<Response, Problem> {
        let mut refused = false;
        loop {
            let token = match self.token.take() {
                Some(token) => token,
                None => api::token_of(&self.send(&api::token_request(&self.base, &self.client))?)?,
            };
            let answer = self.send(&call.request(&self.base, token.clone()));
            match answer {
                Err(Problem::Client) if !refused => refused = true,
                answer => {
                    self.token = Some(token);
                    return answer;
                }
            }
        }
    }

    fn send(&self, request: &Request) -> Result<Response, Problem> {
        let response = self.transport.send(request, limits::CALL_TIMEOUT)?;
        match response.status {
            200..=299 => Ok(response),
            _ => Err(Problem::of(&response, &self.secrets)),
        }
    }
}

/// What carries a plan out.
pub fn call_of(plan: &Plan) -> Option<Call<'_>> {
    match plan {
        Plan::Add(body) => Some(Call::Add(body)),
        Plan::Edit { id, patch } => Some(Call::Edit(id, patch)),
        Plan::Remove { id } => Some(Call::Remove(id)),
        Plan::Nothing(_) => None,
    }
}

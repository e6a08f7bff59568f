//! Manages the relay's module in XDR, as the `relay` tool did.

use std::sync::Arc;

use crate::base::cloud::BaseUrl;
use crate::base::credentials::{AccessToken, Secret};
use crate::base::http::{Request, Response, Transport};
use crate::base::limits;
use crate::cli::module::api::{self, Call, Client, ModuleType};
use crate::cli::module::error::XdrError;
use crate::cli::module::instance::Instance;
use crate::cli::module::plan::Plan;

/// A client of XDR's API.
pub struct XdrClient {
    base: BaseUrl,
    client: Client,
    transport: Arc<dyn Transport>,
    token: Option<AccessToken>,
    /// Secrets to withhold from messages.
    secrets: Vec<Secret>,
}

impl XdrClient {
    /// Creates a client of the API at `base`. Messages never contain parts of `secrets` or of the
    /// client's password.
    pub fn new(
        base: BaseUrl,
        client: Client,
        transport: Arc<dyn Transport>,
        mut secrets: Vec<Secret>,
    ) -> Self {
        secrets.push(client.password.clone());
        Self { base, client, transport, token: None, secrets }
    }

    /// Returns all modules visible to the API client.
    ///
    /// # Errors
    /// When the list cannot be read.
    pub fn instances(&mut self) -> Result<Vec<Instance>, XdrError> {
        api::instances_of(&self.call(&Call::Instances)?)
    }

    /// Returns all module types.
    ///
    /// # Errors
    /// When the list cannot be read.
    pub fn types(&mut self) -> Result<Vec<ModuleType>, XdrError> {
        api::types_of(&self.call(&Call::Types)?)
    }

    /// Carries out `plan`.
    ///
    /// # Errors
    /// When XDR rejects it or does not answer. After a broken connection or a time-out, it may have
    /// been carried out all the same.
    pub fn carry_out(&mut self, plan: &Plan) -> Result<(), XdrError> {
        match call_of(plan) {
            Some(call) => self.call(&call).map(|_| ()),
            None => Ok(()),
        }
    }

    /// Sends one request, and once more with a new token after a 401: tokens last ten minutes and
    /// can be revoked.
    fn call(&mut self, call: &Call<'_>) -> Result<Response, XdrError> {
        let mut refused = false;
        loop {
            let token = match self.token.take() {
                Some(token) => token,
                None => api::token_of(&self.send(&api::token_request(&self.base, &self.client))?)?,
            };
            let answer = self.send(&call.request(&self.base, token.clone()));
            match answer {
                Err(XdrError::Client) if !refused => refused = true,
                answer => {
                    self.token = Some(token);
                    return answer;
                }
            }
        }
    }

    fn send(&self, request: &Request) -> Result<Response, XdrError> {
        let response = self.transport.exchange(request, limits::CALL_TIMEOUT)?;
        match response.status {
            200..=299 => Ok(response),
            _ => Err(XdrError::from_response(&response, &self.secrets)),
        }
    }
}

/// Returns the request that carries out `plan`, if any.
pub fn call_of(plan: &Plan) -> Option<Call<'_>> {
    match plan {
        Plan::Add(body) => Some(Call::Add(body)),
        Plan::Edit { id, patch } => Some(Call::Edit(id, patch)),
        Plan::Remove { id } => Some(Call::Remove(id)),
        Plan::Nothing(_) => None,
    }
}
